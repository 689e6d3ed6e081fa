//! What a pair did and why, in the order it did it.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::time::Moment;
use crate::wire::code::Code;

/// Steps kept of a pair: the oldest go first.
const STEPS_MAX: usize = 512;

/// Where a pair's messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Straight to the peer.
    Direct(SocketAddr),
    /// Over the router.
    Relay,
}

impl Path {
    /// Value for JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Direct(_) => "direct",
            Self::Relay => "relay",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(address) => write!(f, "direct to {address}"),
            Self::Relay => f.write_str("over the relay"),
        }
    }
}

/// Where an address of the peer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The router sees the peer there.
    Observed,
    /// The peer says so.
    Declared,
    /// The router lists it.
    Listed,
    /// A probe of the peer came from there.
    Heard,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observed => "where the router sees it",
            Self::Declared => "as it declares",
            Self::Listed => "as the router lists it",
            Self::Heard => "where its probe came from",
        })
    }
}

/// Why there is no connection, or not the one that was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The router knows no such peer.
    NoSuchPeer,
    /// The peer, or its policy, declined.
    Declined,
    /// The peer is known and did not answer the router.
    PeerSilent,
    /// Both NATs map by destination, or one does and the other one filters by port.
    UnreachableNats,
    /// No probe was answered.
    NoProbeAnswered,
    /// The first window passed without an answer: the relay is prepared meanwhile.
    FirstWindowPassed,
    /// The path that was in use died.
    PathLost,
    /// Probes pass direct, and WireGuard does not: something on the way filters it.
    PathMute,
    /// Punching was switched off.
    PunchingOff,
    /// The relay was switched off.
    RelayOff,
    /// The peer did not consent to be relayed to.
    NoConsent,
    /// The router answered with this ERROR.
    Refused(Code),
    /// The router did not answer.
    RouterSilent,
    /// The channel was closed: idle, over its lifetime, or by the other side.
    ChannelClosed(u32),
    /// The peer does not prove that the tunnel's key is its own.
    Impostor,
    /// The time was over.
    Patience,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchPeer => "the router knows no such peer",
            Self::Declined => "the peer declined",
            Self::PeerSilent => "the peer did not answer the router",
            Self::UnreachableNats => "the two NATs cannot be punched",
            Self::NoProbeAnswered => "no probe was answered",
            Self::FirstWindowPassed => "the first window passed without an answer",
            Self::PathLost => "the path in use died",
            Self::PathMute => "WireGuard does not pass where probes do",
            Self::PunchingOff => "punching is off",
            Self::RelayOff => "the relay is off",
            Self::NoConsent => "the peer gave no consent to be relayed to",
            Self::Refused(code) => return write!(f, "the router refused: {}", code.label()),
            Self::RouterSilent => "the router did not answer",
            Self::ChannelClosed(reason) => {
                return write!(f, "the channel was closed {}", closed(*reason));
            }
            Self::Impostor => "it does not prove that the tunnel's key is its own",
            Self::Patience => "the time was over",
        })
    }
}

/// The page's reasons of a closed channel.
const fn closed(reason: u32) -> &'static str {
    match reason {
        1 => "by the other side",
        2 => "for being idle",
        3 => "at the end of its lifetime",
        4 => "because an identity ended",
        _ => "by the router",
    }
}

/// One thing that a pair did or heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// We asked the router to introduce us, with so many addresses of our own.
    Asked(usize),
    /// The router sees us there.
    SeenAt(SocketAddr),
    /// The router listed the peer, with so many addresses.
    Listed(usize),
    /// The peer asked, through the router, to be connected.
    Notified,
    /// We agreed.
    Accepted,
    /// We did not.
    Declined,
    /// The router introduced us: the peer agreed.
    Introduced,
    /// The router did not.
    NotIntroduced(Reason),
    /// An address to be tried.
    Candidate(SocketAddr, Origin),
    /// Probes go out; counts from 1.
    WindowOpen(u32),
    /// A probe of the peer came.
    ProbeHeard(SocketAddr),
    /// A probe of ours was answered from there.
    Answered(SocketAddr, Duration),
    /// The windows are over and nothing was answered.
    Unanswered,
    /// We asked for a relay channel.
    RelayAsked(Reason),
    /// There is one, for so long.
    RelayOpen(Duration),
    /// The peer, or what came over it, told us of one.
    RelayOffered,
    /// There is none.
    RelayRefused(Reason),
    /// Our channel ended.
    RelayClosed(Reason),
    /// The router slows the channel down.
    RelayThrottled,
    /// We initiate WireGuard.
    Initiated(Path),
    /// There are keys.
    Established(Path),
    /// The peer proved that it is itself.
    Proven,
    /// Messages go this way now.
    Switched(Path),
    /// No probe on the path was answered any more.
    PathDied(SocketAddr),
    /// They were, but nothing of the tunnel was.
    PathMute(SocketAddr),
    /// Punching will be tried again after this.
    RetryIn(Duration),
    /// It was given up.
    GaveUp(Reason),
}

impl Step {
    /// Value for JSON.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Asked(_) => "asked",
            Self::SeenAt(_) => "seen_at",
            Self::Listed(_) => "listed",
            Self::Notified => "notified",
            Self::Accepted => "accepted",
            Self::Declined => "declined",
            Self::Introduced => "introduced",
            Self::NotIntroduced(_) => "not_introduced",
            Self::Candidate(..) => "candidate",
            Self::WindowOpen(_) => "window_open",
            Self::ProbeHeard(_) => "probe_heard",
            Self::Answered(..) => "answered",
            Self::Unanswered => "unanswered",
            Self::RelayAsked(_) => "relay_asked",
            Self::RelayOpen(_) => "relay_open",
            Self::RelayOffered => "relay_offered",
            Self::RelayRefused(_) => "relay_refused",
            Self::RelayClosed(_) => "relay_closed",
            Self::RelayThrottled => "relay_throttled",
            Self::Initiated(_) => "initiated",
            Self::Established(_) => "established",
            Self::Proven => "proven",
            Self::Switched(_) => "switched",
            Self::PathDied(_) => "path_died",
            Self::PathMute(_) => "path_mute",
            Self::RetryIn(_) => "retry_in",
            Self::GaveUp(_) => "gave_up",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(own) => {
                write!(f, "asked the router for an introduction, declaring {own} own addresses")
            }
            Self::SeenAt(address) => write!(f, "the router sees us at {address}"),
            Self::Listed(count) => write!(f, "the router lists the peer, with {count} addresses"),
            Self::Notified => f.write_str("the peer asks to be connected"),
            Self::Accepted => f.write_str("accepted"),
            Self::Declined => f.write_str("declined"),
            Self::Introduced => f.write_str("introduced: the peer accepts"),
            Self::NotIntroduced(why) => write!(f, "not introduced: {why}"),
            Self::Candidate(address, origin) => write!(f, "candidate {address}, {origin}"),
            Self::WindowOpen(number) => write!(f, "window {number}: probes go out"),
            Self::ProbeHeard(address) => write!(f, "a probe of the peer came from {address}"),
            Self::Answered(address, rtt) => write!(f, "{address} answered after {rtt:.1?}"),
            Self::Unanswered => f.write_str("the windows are over, nothing answered"),
            Self::RelayAsked(why) => write!(f, "asked for a relay channel: {why}"),
            Self::RelayOpen(lifetime) => write!(f, "relay channel open for {lifetime:.0?}"),
            Self::RelayOffered => f.write_str("relay channel offered"),
            Self::RelayRefused(why) => write!(f, "no relay channel: {why}"),
            Self::RelayClosed(why) => write!(f, "relay channel closed: {why}"),
            Self::RelayThrottled => f.write_str("the router slows the channel down"),
            Self::Initiated(path) => write!(f, "WireGuard handshake started {path}"),
            Self::Established(path) => write!(f, "WireGuard keys agreed {path}"),
            Self::Proven => f.write_str("the peer proved its id inside the tunnel"),
            Self::Switched(path) => write!(f, "sending {path}"),
            Self::PathDied(address) => write!(f, "{address} does not answer any more"),
            Self::PathMute(address) => {
                write!(f, "{address} answers probes, and nothing of the tunnel")
            }
            Self::RetryIn(pause) => write!(f, "punching again in {pause:.0?}"),
            Self::GaveUp(why) => write!(f, "gave up: {why}"),
        }
    }
}

/// The steps of a pair with their time.
#[derive(Clone, Debug, Default)]
pub struct Log {
    steps: VecDeque<(Moment, Step)>,
}

impl Log {
    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &(Moment, Step)> {
        self.steps.iter()
    }

    /// When something was done first.
    pub fn first(&self, which: impl Fn(&Step) -> bool) -> Option<Moment> {
        self.steps.iter().find(|(_, step)| which(step)).map(|(at, _)| *at)
    }

    pub(super) fn push(&mut self, now: Moment, step: Step) {
        if self.steps.len() >= STEPS_MAX {
            self.steps.pop_front();
        }
        self.steps.push_back((now, step));
    }
}
