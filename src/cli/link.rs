//! The link that a router hands out: its own name, and the best guess at its address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use crate::client::Link;
use crate::client::link::Host;
use crate::identity::Identity;
use crate::net::Scope;

use super::{Exit, Failure};

/// A link, and what its reader should know about its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// The link.
    pub link: Link,
    /// Who can use it, if not everybody.
    pub note: Option<&'static str>,
}

const LOCAL: &str =
    "this link works on this machine only; --host NAME-OR-ADDRESS names another host";
const PRIVATE: &str =
    "this link works inside this network only; --host NAME-OR-ADDRESS names another host";

/// The link to a router of `identity` that listens at `listen`.
///
/// The host is the one `asked` for, else the address it listens at; if that is all
/// addresses, the one by which this machine reaches the world, else 127.0.0.1.
///
/// # Errors
/// If `asked` is no host.
pub fn advertise(
    identity: &Identity,
    listen: SocketAddr,
    asked: Option<&str>,
) -> Result<Advertised, Failure> {
    let link =
        |host| Link { peer: identity.peer_id(), host, port: listen.port(), key: identity.wg_key() };
    if let Some(asked) = asked {
        let link = link(host(asked));
        // What the clients' own parser refuses is no host.
        return match link.to_string().parse::<Link>() {
            Ok(link) => Ok(Advertised { link, note: None }),
            Err(error) => Err(Failure::new(Exit::Usage, format_args!("--host {asked}: {error}"))),
        };
    }
    let ip = if listen.ip().is_unspecified() { reachable(listen.ip()) } else { listen.ip() };
    let note = match Scope::of(ip) {
        Scope::Loopback => Some(LOCAL),
        Scope::Private => Some(PRIVATE),
        Scope::Global => None,
    };
    Ok(Advertised { link: link(Host::Ip(ip.to_canonical())), note })
}

fn host(text: &str) -> Host {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_or_else(|_| Host::Name(text.to_owned()), Host::Ip)
}

/// The address this machine uses towards the world, IPv4 first since more peers have it.
fn reachable(listen: IpAddr) -> IpAddr {
    // Documentation addresses: connecting a datagram socket only asks the routing table.
    let v4 = || source("0.0.0.0:0", "192.0.2.1:9");
    let v6 = || source("[::]:0", "[2001:db8::1]:9");
    let found = if listen.is_ipv4() { v4() } else { v4().or_else(v6) };
    found.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn source(from: &str, towards: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(towards).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key;

    fn link(listen: &str, asked: Option<&str>) -> Result<(String, Option<&'static str>), Failure> {
        let identity = key::generate().unwrap();
        let advertised = advertise(&identity, listen.parse().unwrap(), asked)?;
        let text = advertised.link.to_string();
        assert_eq!(text.parse::<Link>().unwrap().key, identity.wg_key());
        let place = text.split(['@', '?']).nth(1).unwrap().to_owned();
        Ok((place, advertised.note))
    }

    #[test]
    fn the_host_is_where_it_listens_or_what_was_asked_for() {
        assert_eq!(link("127.0.0.1:7743", None), Ok(("127.0.0.1:7743".into(), Some(LOCAL))));
        assert_eq!(link("10.1.2.3:1", None), Ok(("10.1.2.3:1".into(), Some(PRIVATE))));
        assert_eq!(link("[2606:4700::1]:7", None), Ok(("[2606:4700::1]:7".into(), None)));
        let named = |asked| link("[::]:7743", Some(asked));
        assert_eq!(named("router.example.org"), Ok(("router.example.org:7743".into(), None)));
        assert_eq!(named("2001:db8::5"), Ok(("[2001:db8::5]:7743".into(), None)));
        assert_eq!(named("[2001:db8::5]"), Ok(("[2001:db8::5]:7743".into(), None)));
        for wrong in ["", "a b", "x:1", "a/b", "a?k=b"] {
            assert_eq!(named(wrong).unwrap_err().exit(), Exit::Usage, "{wrong:?}");
        }
    }

    #[test]
    fn all_addresses_become_one_that_can_be_dialled() {
        for listen in ["0.0.0.0:7743", "[::]:7743"] {
            let (place, _) = link(listen, None).unwrap();
            let place: SocketAddr = place.parse().unwrap();
            assert!(!place.ip().is_unspecified(), "{place}");
        }
    }
}
