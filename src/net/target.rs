//! Where nothing is sent on anybody's word: what peers are introduced at, and what is relayed to.
//!
//! An address that embeds another one (RFC 4291, RFC 6052, RFC 3056, RFC 4380) is judged by both: a
//! translator on the way would send to the inner one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Scope;

/// Why nothing is sent to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forbidden {
    /// Port 0.
    Port,
    /// Nobody's: unspecified, "this network", reserved, discard-only.
    Nobody,
    /// More than one host's: multicast and broadcast.
    Many,
    /// It means something on one link only.
    LinkLocal,
    /// This host's own.
    Own,
    /// Some network's own: private, loopback, shared, benchmark, documentation.
    Private,
}

impl Forbidden {
    /// Word for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Nobody => "nobody",
            Self::Many => "many",
            Self::LinkLocal => "link_local",
            Self::Own => "own",
            Self::Private => "private",
        }
    }
}

/// Why nothing may be sent to `addr`, if so. `own` are this host's addresses; `allow_private` lets
/// private, loopback, shared, benchmark and documentation ranges pass, own ones among them: a
/// laboratory on one host.
pub fn forbidden(addr: &SocketAddr, own: &[IpAddr], allow_private: bool) -> Option<Forbidden> {
    if addr.port() == 0 {
        return Some(Forbidden::Port);
    }
    let ip = addr.ip().to_canonical();
    let inner = match ip {
        IpAddr::V6(v6) => embedded(v6),
        IpAddr::V4(_) => None,
    };
    let mut judged = [Some(ip), inner.map(IpAddr::V4)].into_iter().flatten();
    judged.find_map(|ip| forbidden_ip(ip, own, allow_private))
}

fn forbidden_ip(ip: IpAddr, own: &[IpAddr], allow_private: bool) -> Option<Forbidden> {
    let reserved = match ip {
        IpAddr::V4(v4) => reserved_v4(v4),
        IpAddr::V6(v6) => reserved_v6(v6),
    };
    if reserved.is_some() {
        return reserved;
    }
    let private = Scope::of(ip) != Scope::Global;
    if private && !allow_private {
        return Some(Forbidden::Private);
    }
    let is_own = own.iter().any(|own| own.to_canonical() == ip);
    (is_own && !private).then_some(Forbidden::Own)
}

fn reserved_v4(ip: Ipv4Addr) -> Option<Forbidden> {
    match ip.octets() {
        [0, ..] => Some(Forbidden::Nobody),
        [169, 254, ..] => Some(Forbidden::LinkLocal),
        [224..=239, ..] | [255, 255, 255, 255] => Some(Forbidden::Many),
        [240..=255, ..] => Some(Forbidden::Nobody),
        _ => None,
    }
}

fn reserved_v6(ip: Ipv6Addr) -> Option<Forbidden> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] | [0x100, 0, 0, 0, ..] => Some(Forbidden::Nobody),
        [0xff00..=0xffff, ..] => Some(Forbidden::Many),
        // fe80::/10, and fec0::/10, which was site-local.
        [0xfe80..=0xfeff, ..] => Some(Forbidden::LinkLocal),
        _ => None,
    }
}

/// The IPv4 address that a translator would make of `ip`.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        // IPv4-compatible; ::1 and :: are addresses of their own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => v4(high, low),
        // NAT64, well-known and local-use.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => {
            v4(high, low)
        }
        // IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0xffff, 0, high, low] => v4(high, low),
        // 6to4.
        [0x2002, high, low, ..] => v4(high, low),
        // Teredo: the client's address, inverted.
        [0x2001, 0, _, _, _, _, high, low] => v4(!high, !low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(addr: &str, allow_private: bool) -> Option<Forbidden> {
        let own = ["8.8.4.4".parse().unwrap(), "2606:4700::1".parse().unwrap()];
        forbidden(&addr.parse().unwrap(), &own, allow_private)
    }

    #[test]
    fn what_is_nobodys_or_everybodys_is_never_sent_to() {
        let never = [
            ("1.1.1.1:0", Forbidden::Port),
            ("0.0.0.0:9", Forbidden::Nobody),
            ("0.1.2.3:9", Forbidden::Nobody),
            ("240.0.0.1:9", Forbidden::Nobody),
            ("255.255.255.255:9", Forbidden::Many),
            ("224.0.0.1:9", Forbidden::Many),
            ("239.255.255.255:9", Forbidden::Many),
            ("169.254.0.1:9", Forbidden::LinkLocal),
            ("8.8.4.4:9", Forbidden::Own),
            ("[::]:9", Forbidden::Nobody),
            ("[100::1]:9", Forbidden::Nobody),
            ("[ff02::1]:9", Forbidden::Many),
            ("[fe80::1]:9", Forbidden::LinkLocal),
            ("[fec0::1]:9", Forbidden::LinkLocal),
            ("[2606:4700::1]:9", Forbidden::Own),
            // The same in disguise.
            ("[::ffff:8.8.4.4]:9", Forbidden::Own),
            ("[::ffff:224.0.0.1]:9", Forbidden::Many),
            ("[::169.254.0.1]:9", Forbidden::LinkLocal),
            ("[64:ff9b::224.0.0.1]:9", Forbidden::Many),
            ("[64:ff9b:1::169.254.1.1]:9", Forbidden::LinkLocal),
            ("[2002:e000:1::]:9", Forbidden::Many),
            ("[2001:0:1:2:3:4:1fff:fffe]:9", Forbidden::Many),
        ];
        for (addr, why) in never {
            assert_eq!(judge(addr, true), Some(why), "{addr}");
            assert!(judge(addr, false).is_some(), "{addr}");
        }
    }

    #[test]
    fn a_networks_own_addresses_pass_in_a_laboratory_only() {
        for addr in [
            "127.0.0.1:9",
            "10.0.0.1:9",
            "172.16.0.1:9",
            "192.168.0.1:9",
            "100.64.0.1:9",
            "198.18.0.1:9",
            "192.0.2.1:9",
            "[::1]:9",
            "[fd00::1]:9",
            "[2001:db8::1]:9",
            "[::ffff:10.0.0.1]:9",
            "[::10.0.0.1]:9",
            "[64:ff9b::127.0.0.1]:9",
            "[2002:7f00:1::]:9",
            "[2001:0:1:2:3:4:80ff:fffe]:9",
        ] {
            assert_eq!(judge(addr, false), Some(Forbidden::Private), "{addr}");
            assert_eq!(judge(addr, true), None, "{addr}");
        }
        for addr in ["1.1.1.1:9", "[2606:4700::1111]:9", "[2a00::1]:65535"] {
            assert_eq!(judge(addr, false), None, "{addr}");
        }
    }
}
