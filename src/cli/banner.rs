//! What `run` prints when it serves: everything a newcomer needs, in plain lines.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::link::Advertised;
use super::output;
use crate::config::Placement;
use crate::identity::Identity;
use crate::port::{Achieved, BufferSize, Steering};

/// The facts.
#[derive(Clone)]
pub(super) struct Banner {
    pub(super) identity: Arc<Identity>,
    pub(super) key_file: PathBuf,
    /// The key file was written just now.
    pub(super) key_is_new: bool,
    pub(super) listen: SocketAddr,
    /// The alternate port.
    pub(super) alternate: Option<SocketAddr>,
    /// `overlay/role`.
    pub(super) role: &'static str,
    pub(super) achieved: Achieved,
    pub(super) steering: Steering,
    pub(super) placement: Placement,
    /// For receiving and for sending.
    pub(super) buffers: [BufferSize; 2],
    pub(super) admin: Option<SocketAddr>,
    /// Where counters and description lie.
    pub(super) directory: PathBuf,
    /// Where the store lies; none is memory alone.
    pub(super) store: Option<PathBuf>,
    /// About the settings.
    pub(super) warnings: Vec<String>,
    pub(super) advertised: Advertised,
}

impl Banner {
    /// The lines, the last of which begins with `ready`.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))];
        let mut line = |label: &str, text: String| lines.push(format!("{label:<15}{text}"));
        line("peer id", self.identity.peer_id().to_string());
        line("WireGuard key", output::base64(&self.identity.wg_key().0));
        line("identity", self.key_line());
        line("listen", self.listen.to_string());
        line("alternate", self.alternate_line());
        line("role", self.role.to_owned());
        line("engine", self.achieved.to_string());
        for missing in &self.achieved.missing {
            line("missing", format!("{}: {}", missing.feature.label(), missing.reason));
        }
        line("shards", self.shards_line());
        line("steering", self.steering.to_string());
        line("store", self.store_line());
        line("metrics", self.metrics_line());
        line("counters", self.directory.display().to_string());
        self.warnings().into_iter().for_each(|warning| line("warning", warning));
        line("link", self.advertised.link.to_string());
        if let Some(note) = self.advertised.note {
            line("note", note.to_owned());
        }
        line("next", format!("molia-router ping '{}'", self.advertised.link));
        line("", "molia-router status".to_owned());
        lines.push(format!("ready {} {}", self.listen, self.advertised.link));
        lines
    }

    /// Everything that works and yet could be better, each with its remedy.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        for (name, size) in ["udp/rcvbuf_bytes", "udp/sndbuf_bytes"].into_iter().zip(&self.buffers)
        {
            let BufferSize { asked_bytes, effective_bytes, clamped_by } = size;
            if let Some(sysctl) = clamped_by {
                warnings.push(format!(
                    "{name} = {asked_bytes}, the kernel grants {effective_bytes}: \
                     sysctl -w {sysctl}={asked_bytes}"
                ));
            }
        }
        warnings
    }

    fn key_line(&self) -> String {
        let path = self.key_file.display();
        if self.key_is_new { format!("{path} (new: keep a copy)") } else { path.to_string() }
    }

    fn shards_line(&self) -> String {
        let Placement { count, cpus } = &self.placement;
        let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
        match (count, &cpus[..]) {
            (_, []) => count.to_string(),
            (_, [cpu]) => format!("{count}, on CPU {cpu}"),
            (_, cpus) => format!("{count}, on CPUs {}", cpus.join(", ")),
        }
    }

    fn store_line(&self) -> String {
        match &self.store {
            Some(store) => store.display().to_string(),
            None => "off: records are in memory alone".into(),
        }
    }

    fn alternate_line(&self) -> String {
        match self.alternate {
            Some(alternate) => alternate.to_string(),
            None => "off (udp/alt_port)".into(),
        }
    }

    fn metrics_line(&self) -> String {
        match self.admin {
            Some(admin) => format!("http://{admin}/metrics"),
            None => "off (admin/listen)".into(),
        }
    }
}
