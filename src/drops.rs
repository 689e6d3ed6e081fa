//! Why a datagram or a message was dropped: every reason is a counter.

macro_rules! drops {
    ($($variant:ident $label:literal $help:literal,)*) => {
        /// A reason to drop something, one variant per counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Drop {
            $(#[doc = $help] $variant,)*
        }

        impl Drop {
            /// Every reason, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Value of the `reason` label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// One line for people.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

drops! {
    // Before anything is known of the sender.
    Empty "empty" "datagram without a byte",
    UnknownType "unknown_type" "first bytes that no protocol on this port begins with",
    BadLength "bad_length" "right first bytes, impossible length",
    Stun "stun" "STUN request while `reflect/stun` is off",
    Probe "probe" "punch or filter probe: never meant for a router",
    StunMalformed "stun_malformed" "STUN request that does not parse",
    StunRate "stun_rate" "STUN requests of one address above its rate",
    RelayChannel "relay_channel" "channel data for no channel, or of another generation",
    RelayShape "relay_shape" "channel data that is no WireGuard message, or with reserved flags",
    RelaySource "relay_source" "channel data from another address than its leg's",
    RelayTarget "relay_target" "channel data for a leg at an address that nothing is relayed to",
    RelayUnbound "relay_unbound" "datagram to the port of an unmodified WireGuard peer while nobody is bound to the other leg",
    RelayCookie "relay_cookie" "handshake message to the port of an unmodified WireGuard peer from a new address, or one of many, without the cookie that is asked for",
    RelayBudget "relay_budget" "channel data that waited too long, or found no place to wait, for its budget",
    PacketBudget "packet_budget" "handshakes beyond what a turn may look at",
    BadMac1 "bad_mac1" "handshake that does not know our public key",
    CookieReply "cookie_reply" "cookie reply: a router never asked for one",
    HandshakeResponse "handshake_response" "handshake response: a router never initiates",
    ReplayedInitiation "replayed_initiation" "initiation that was seen before",
    NoCookie "no_cookie" "initiation under load without a valid cookie; answered with one",
    AddressRate "address_rate" "handshakes of one address above its rate",
    PrefixRate "prefix_rate" "handshakes of one prefix above its rate",
    BadInitiation "bad_initiation" "initiation that does not decrypt or has an old timestamp",
    HandshakeBudget "handshake_budget" "initiations beyond the handshake queue",
    SessionsFull "sessions_full" "initiation of a new peer while the session table is full and its network has its share, or it showed no cookie",
    // A session's data.
    NoSession "no_session" "data for a receiver index that is not in use",
    BadCounter "bad_counter" "data with a counter above 2^63",
    ExpiredKeys "expired_keys" "data under keys older than 180 s",
    Replayed "replayed" "data whose counter was seen or is too old",
    BadTag "bad_tag" "data that does not authenticate",
    IpPacket "ip_packet" "plaintext that is a real IP packet",
    BadShim "bad_shim" "plaintext without a valid shim",
    // A frame.
    RequestWithResponseBit "request_with_response_bit" "request type that carries the response bit",
    ResponseWithoutBit "response_without_bit" "response type without the response bit",
    UnknownCorrelation "unknown_correlation" "response that nobody waits for",
    BadResponse "bad_response" "response of another version or unknown type, with reserved flags, from a session that may not send it, or too large",
    Unanswerable "unanswerable" "faulty or unsupported message of a type that is never answered",
    Malformed "malformed" "response body that does not parse",
    // On the way out.
    QueueFull "queue_full" "the class's queue is full",
    Expired "expired" "waited longer than its class allows",
    PeerRate "peer_rate" "above `limits/peer_pps` or `limits/peer_bps`",
    SendPrefixRate "send_prefix_rate" "above the rate of its /24 or /48",
    Unproven "unproven" "more bytes to an unproven address than came from it",
    Unconfirmed "unconfirmed" "session without a usable key yet",
    SessionGone "session_gone" "its session ended while it waited",
    NoBuffer "no_buffer" "no free buffer",
    TooLarge "too_large" "answer that does not fit the path or the peer's limit",
    SendFailed "send_failed" "the kernel refused to send it; counted by the port, whose errors say why",
}
