//! RELAY_ALLOC, RELAY_CLOSE and what the router tells legs by itself.
//!
//! A channel belongs to one shard, a fixed function of its pair of peers. A request is checked where
//! its session lives and goes as a letter to the shard that owns the other peer's id, to that
//! peer's home, which adds where its session is, to the channel's shard, and with what became of it
//! back to where it came from. Whoever holds a session that has legs elsewhere tells those shards
//! where it is now, before anything else that it tells them: letters about legs are control, and
//! keep their order.

use std::time::Duration;

use arrayvec::ArrayVec;

use crate::bucket::{Rate, TokenBucket};
use crate::ids::{HomeRef, PeerId, SessionRef};
use crate::limits;
use crate::net::{Path, Prefix, target};
use crate::partition::ShardSet;
use crate::relay::{Allocated, Event, Leg, Refused, Standing};
use crate::time::{Moment, Now};
use crate::tunnel::Tunnel;
use crate::wire::body::{Addrs, RelayAllocReq, RelayAllocResp, RelayClose, RelayStatus, consent_scope};
use crate::wire::{Class, Code, Header, Kind, multiaddr};

use super::super::records::{Asker, asker};
use super::super::{Mail, Request, Router, Source};

/// Allocations and closings that one session may ask for: each may be a signature check.
const ASKED: Rate = Rate::new(4, 32);
