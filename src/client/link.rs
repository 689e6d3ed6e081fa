//! The link to a router: `molia://<peer id>@<host>:<port>?k=<WireGuard key>`.
//!
//! The peer id is 64 hex digits, the key base64url without padding, an IPv6 host
//! stands in brackets. Unknown query parameters are ignored, so that a later
//! version may add hints; everything else that deviates is an error that says where.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::ids::{PeerId, WgKey};

const SCHEME: &str = "molia://";
const PEER_ID_DIGITS: usize = 64;
const KEY_CHARS: usize = 43;
const NAME_BYTES_MAX: usize = 253;

/// Everything a client needs to know of a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Who answers there.
    pub peer: PeerId,
    /// Where.
    pub host: Host,
    /// UDP port.
    pub port: u16,
    /// Its WireGuard public key.
    pub key: WgKey,
}

/// The host of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name to be resolved.
    Name(String),
}

/// What is wrong with a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Another scheme.
    #[error("a router's link begins with molia://")]
    Scheme,
    /// No `@`.
    #[error("link without a peer id: expected molia://<64 hex digits>@<host>:<port>?k=<key>")]
    NoPeerId,
    /// Not 64 characters.
    #[error("peer id of {0} characters: it is 64 hex digits")]
    PeerIdLength(usize),
    /// Something else than hex.
    #[error("peer id with {0:?}: it is 64 hex digits")]
    PeerIdDigit(char),
    /// Nothing before the port.
    #[error("link without a host")]
    NoHost,
    /// A name no resolver would take.
    #[error(
        "host {0:?} is neither an address nor a host name (an IPv6 address stands in brackets)"
    )]
    Host(String),
    /// `[` without a valid address and `]`.
    #[error("{0:?} is not an IPv6 address in brackets")]
    Ipv6(String),
    /// No `:port`.
    #[error("link without a port: expected <host>:<port>")]
    NoPort,
    /// Not 1..65535.
    #[error("port {0:?} is not a number of 1 to 65535")]
    Port(String),
    /// Something between port and `?`.
    #[error("link with a path {0:?}: nothing stands between the port and ?k=")]
    Path(String),
    /// No `k`.
    #[error("link without the router's key: expected ?k=<WireGuard key, base64url>")]
    NoKey,
    /// More than one `k`.
    #[error("link with two keys k=")]
    TwoKeys,
    /// Standard base64 in place of base64url.
    #[error(
        "key k= in standard base64: links carry base64url without padding (- for +, _ for /, no =)"
    )]
    KeyAlphabet,
    /// Not 43 characters.
    #[error("key k= of {0} characters: 32 bytes in base64url are 43")]
    KeyLength(usize),
    /// Does not decode.
    #[error("key k= is not base64url of 32 bytes")]
    Key,
    /// A `#`.
    #[error("link with a fragment: nothing follows the key")]
    Fragment,
}

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let rest = strip_scheme(text).ok_or(LinkError::Scheme)?;
        if rest.contains('#') {
            return Err(LinkError::Fragment);
        }
        let (peer, rest) = rest.split_once('@').ok_or(LinkError::NoPeerId)?;
        let peer = parse_peer_id(peer)?;
        let (place, query) = rest.split_once('?').ok_or(LinkError::NoKey)?;
        let (host, port) = parse_place(place)?;
        let key = parse_query(query)?;
        Ok(Self { peer, host, port, key })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = URL_SAFE_NO_PAD.encode(self.key.0);
        write!(f, "{SCHEME}{}@{}:{}?k={key}", self.peer, self.host, self.port)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A peer id of 64 hex digits, in either case.
pub fn parse_peer_id(text: &str) -> Result<PeerId, LinkError> {
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(LinkError::PeerIdDigit(odd));
    }
    if text.len() != PEER_ID_DIGITS {
        return Err(LinkError::PeerIdLength(text.len()));
    }
    let mut id = [0; 32];
    for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0]) << 4 | nibble(pair[1]);
    }
    Ok(PeerId(id))
}

/// Value of a hex digit that was checked.
fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

fn parse_place(place: &str) -> Result<(Host, u16), LinkError> {
    // What URL libraries put in front of a query is no path.
    let place = place.strip_suffix('/').unwrap_or(place);
    if let Some((_, path)) = place.split_once('/') {
        return Err(LinkError::Path(format!("/{path}")));
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let bad = || LinkError::Ipv6(place.to_owned());
            let (ip, port) = bracketed.split_once(']').ok_or_else(bad)?;
            let ip: Ipv6Addr = ip.parse().map_err(|_| bad())?;
            let port = port.strip_prefix(':').ok_or(LinkError::NoPort)?;
            (Host::Ip(IpAddr::V6(ip)), port)
        }
        None => {
            let (host, port) = place.rsplit_once(':').ok_or(LinkError::NoPort)?;
            (parse_host(host)?, port)
        }
    };
    match port.parse() {
        // `parse` would take a sign.
        Ok(number) if number != 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok((host, number)),
        _ => Err(LinkError::Port(port.to_owned())),
    }
}

fn parse_host(host: &str) -> Result<Host, LinkError> {
    if host.is_empty() {
        return Err(LinkError::NoHost);
    }
    if let Ok(ip) = host.parse() {
        return Ok(Host::Ip(IpAddr::V4(ip)));
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if host.len() > NAME_BYTES_MAX || !host.bytes().all(legal) {
        return Err(LinkError::Host(host.to_owned()));
    }
    Ok(Host::Name(host.to_owned()))
}

fn parse_query(query: &str) -> Result<WgKey, LinkError> {
    let mut keys = query.split('&').filter_map(|pair| pair.strip_prefix("k="));
    let key = keys.next().ok_or(LinkError::NoKey)?;
    if keys.next().is_some() {
        return Err(LinkError::TwoKeys);
    }
    if key.contains(['+', '/', '=']) {
        return Err(LinkError::KeyAlphabet);
    }
    if key.chars().count() != KEY_CHARS {
        return Err(LinkError::KeyLength(key.chars().count()));
    }
    let bytes = URL_SAFE_NO_PAD.decode(key).map_err(|_| LinkError::Key)?;
    Ok(WgKey(bytes.try_into().map_err(|_| LinkError::Key)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn error(text: &str) -> LinkError {
        text.parse::<Link>().unwrap_err()
    }

    #[test]
    fn reads_all_its_parts() {
        let link: Link = format!("molia://{ID}@example.org:7743?k={KEY}").parse().unwrap();
        assert_eq!(link.peer.to_string(), ID);
        assert_eq!(link.host, Host::Name("example.org".into()));
        assert_eq!(link.port, 7743);
        assert_eq!(link.key.0, std::array::from_fn(|i| u8::try_from(i).unwrap()));
    }

    #[test]
    fn takes_what_url_tools_make_of_it() {
        let plain: Link = format!("molia://{ID}@10.0.0.1:1?k={KEY}").parse().unwrap();
        let upper = ID.to_uppercase();
        for text in [
            format!("MOLIA://{ID}@10.0.0.1:1?k={KEY}"),
            format!("molia://{upper}@10.0.0.1:1?k={KEY}"),
            format!("molia://{ID}@10.0.0.1:1/?k={KEY}"),
            format!("molia://{ID}@10.0.0.1:1?via=tour&k={KEY}"),
        ] {
            assert_eq!(text.parse(), Ok(plain.clone()), "{text}");
        }
    }

    #[test]
    fn ipv6_stands_in_brackets() {
        let text = format!("molia://{ID}@[2001:db8::1]:65535?k={KEY}");
        let link: Link = text.parse().unwrap();
        assert_eq!(link.host, Host::Ip("2001:db8::1".parse().unwrap()));
        assert_eq!(link.to_string(), text);
        assert_eq!(
            error(&format!("molia://{ID}@2001:db8::1:7743?k={KEY}")),
            LinkError::Host("2001:db8::1".into())
        );
        assert_eq!(
            error(&format!("molia://{ID}@[::1:7743?k={KEY}")),
            LinkError::Ipv6("[::1:7743".into())
        );
        assert_eq!(error(&format!("molia://{ID}@[::1]?k={KEY}")), LinkError::NoPort);
    }

    #[test]
    fn every_error_names_its_place() {
        let padded = format!("{KEY}=");
        for (text, expected) in [
            (format!("https://{ID}@h:1?k={KEY}"), LinkError::Scheme),
            (String::new(), LinkError::Scheme),
            (format!("molia://h:1?k={KEY}"), LinkError::NoPeerId),
            (format!("molia://{}@h:1?k={KEY}", &ID[1..]), LinkError::PeerIdLength(63)),
            (format!("molia://{}g@h:1?k={KEY}", &ID[1..]), LinkError::PeerIdDigit('g')),
            (format!("molia://{ID}@:1?k={KEY}"), LinkError::NoHost),
            (format!("molia://{ID}@a b:1?k={KEY}"), LinkError::Host("a b".into())),
            (format!("molia://{ID}@h?k={KEY}"), LinkError::NoPort),
            (format!("molia://{ID}@h:0?k={KEY}"), LinkError::Port("0".into())),
            (format!("molia://{ID}@h:+7?k={KEY}"), LinkError::Port("+7".into())),
            (format!("molia://{ID}@h:65536?k={KEY}"), LinkError::Port("65536".into())),
            (format!("molia://{ID}@h:1/x?k={KEY}"), LinkError::Path("/x".into())),
            (format!("molia://{ID}@h:1"), LinkError::NoKey),
            (format!("molia://{ID}@h:1?key={KEY}"), LinkError::NoKey),
            (format!("molia://{ID}@h:1?k={KEY}&k={KEY}"), LinkError::TwoKeys),
            (format!("molia://{ID}@h:1?k={padded}"), LinkError::KeyAlphabet),
            (format!("molia://{ID}@h:1?k={}", &KEY[1..]), LinkError::KeyLength(42)),
            (format!("molia://{ID}@h:1?k={}!", &KEY[1..]), LinkError::Key),
            (format!("molia://{ID}@h:1?k={KEY}#x"), LinkError::Fragment),
        ] {
            assert_eq!(error(&text), expected, "{text}");
        }
    }

    fn hosts() -> impl Strategy<Value = Host> {
        prop_oneof![
            any::<u32>().prop_map(|ip| Host::Ip(IpAddr::V4(ip.into()))),
            any::<u128>().prop_map(|ip| Host::Ip(IpAddr::V6(ip.into()))),
            "[a-z][a-z0-9-]{0,20}(\\.[a-z][a-z0-9]{1,5}){0,3}".prop_map(Host::Name),
        ]
    }

    proptest! {
        #[test]
        fn printing_and_parsing_round_trip(
            peer in any::<[u8; 32]>(), key in any::<[u8; 32]>(), host in hosts(), port in 1u16..,
        ) {
            let link = Link { peer: PeerId(peer), host, port, key: WgKey(key) };
            prop_assert_eq!(link.to_string().parse::<Link>(), Ok(link));
        }

        #[test]
        fn never_panics(text in "(molia://)?[0-9a-f@:\\[\\]?k=/&#é-]{0,200}") {
            let _ = text.parse::<Link>();
        }
    }
}
