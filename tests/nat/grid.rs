//! Every behaviour on two sides of one internet, and what may be expected between them.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::thread;

use crate::lab::{Behaviour, Client, Depends, Lab, Missing, Nat, Server};

/// Two clients behind routers of their own for every behaviour, one to start and one to answer.
pub(crate) struct Grid {
    pub(crate) lab: Lab,
    pub(crate) server: Server,
    pub(crate) behaviours: Vec<Behaviour>,
    starting: Vec<Client>,
    answering: Vec<Client>,
}

/// A pair of clients, the one that starts first.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) behaviours: [Behaviour; 2],
    pub(crate) clients: [Client; 2],
}

/// What becomes of two peers that punch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Direct,
    /// Nothing but the relay is possible.
    Relayed,
    /// Whose datagram is first decides.
    Either,
}

impl Grid {
    /// Loses so many percent at every router, each way.
    pub(crate) fn new(behaviours: &[Behaviour], loss: u32) -> Result<Self, Missing> {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let mut side = || -> Result<Vec<Client>, Missing> {
            let mut clients = Vec::new();
            for behaviour in behaviours {
                let router = lab.router(Nat::new(*behaviour))?;
                if loss > 0 {
                    lab.lose(router, loss, loss)?;
                }
                clients.push(lab.client(router)?);
            }
            Ok(clients)
        };
        let (starting, answering) = (side()?, side()?);
        Ok(Self { lab, server, behaviours: behaviours.to_vec(), starting, answering })
    }

    /// All pairs in both directions, row by row.
    pub(crate) fn pairs(&self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for (a, starting) in self.behaviours.iter().zip(&self.starting) {
            for (b, answering) in self.behaviours.iter().zip(&self.answering) {
                pairs.push(Pair { behaviours: [*a, *b], clients: [*starting, *answering] });
            }
        }
        pairs
    }

    /// A table with a row for every behaviour that starts and a column for each that answers.
    pub(crate) fn table(&self, cells: &[String]) -> String {
        let mut table = format!("{:11}", "");
        for behaviour in &self.behaviours {
            table += &format!("{:>13}", behaviour.name());
        }
        for (behaviour, row) in self.behaviours.iter().zip(cells.chunks(self.behaviours.len())) {
            table += &format!("\n{:11}", behaviour.name());
            row.iter().for_each(|cell| table += &format!("{cell:>13}"));
        }
        table
    }
}

impl Expected {
    pub(crate) fn between(a: Behaviour, b: Behaviour) -> Self {
        let strict = |it: Behaviour| it.filtering() == Depends::AddressAndPort;
        let moves = |it: Behaviour| it.mapping() == Depends::AddressAndPort;
        let bare = a == Behaviour::LinuxBare || b == Behaviour::LinuxBare;
        // A port that the other side has not seen passes no filter that asks for the port.
        if moves(a) && strict(b) || strict(a) && moves(b) {
            Self::Relayed
        } else if bare && strict(a) && strict(b) {
            // A probe that comes before its own takes away the port the bare router would use.
            Self::Either
        } else {
            Self::Direct
        }
    }
}

/// Does `act` for every item, several at once; the results are in the order of the items.
pub(crate) fn at_once<T: Send, R: Send>(
    items: Vec<T>,
    threads: usize,
    act: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let waiting = Mutex::new(items.into_iter().enumerate().collect::<VecDeque<_>>());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().pop_front();
                    let Some((place, item)) = next else { break };
                    let result = act(item);
                    done.lock().unwrap().push((place, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}
