//! The steps of rules that iptables-nft wrote, told as steps of the xtables rules that they were.
//!
//! nf_tables knows a rule only as evaluated; to who listens, rules that broke are a stretch that was passed over
//! ([`Step::XtMissed`]) and one that ran to its end has matched. There is no closing entry of a chain: its end is not
//! told.

use super::expr::Flow;
use crate::kernel::trace::{Observer, Step};
use crate::kernel::xtables;
use sim_core::classify::{Packet, Work};

/// Tells `to` the steps of an engine whose chains were these (table, chain).
pub struct XtSteps<'a, O> {
    to: &'a mut O,
    places: &'a [(u32, u32)],
    /// Rules that broke, one after another: the first and the last, and how things stood after that.
    missed: Option<Missed>,
}

struct Missed {
    chain: usize,
    from: u32,
    to: u32,
    packet: Packet,
    work: Work,
}

impl<'a, O: Observer> XtSteps<'a, O> {
    /// `places` by number of the engine's chains.
    pub fn new(to: &'a mut O, places: &'a [(u32, u32)]) -> Self {
        XtSteps { to, places, missed: None }
    }

    /// Tells what has not been told yet.
    pub fn finish(&mut self) {
        if let Some(Missed { chain, from, to, packet, work }) = self.missed.take() {
            let (table, chain) = self.place(chain);
            self.to.step(Step::XtMissed { table, chain, from, to }, &packet, &work);
        }
    }

    fn place(&self, chain: usize) -> (usize, xtables::ChainId) {
        let (table, chain) = self.places[chain];
        (table as usize, xtables::ChainId(chain))
    }
}

impl<O: Observer> Observer for XtSteps<'_, O> {
    const LISTENS: bool = O::LISTENS;

    fn step(&mut self, step: Step, packet: &Packet, work: &Work) {
        if !O::LISTENS {
            return;
        }
        match step {
            Step::NftRule { chain, rule, flow: Flow::Break } => {
                let chain = chain.0 as usize;
                let from = match &self.missed {
                    Some(m) if (m.chain, m.to) == (chain, rule) => m.from,
                    _ => {
                        self.finish();
                        rule
                    }
                };
                self.missed = Some(Missed { chain, from, to: rule + 1, packet: *packet, work: *work });
            }
            Step::NftRule { chain, rule, .. } => {
                self.finish();
                let (table, chain) = self.place(chain.0 as usize);
                self.to.step(Step::XtMatched { table, chain, rule }, packet, work);
            }
            Step::NftChain(chain) => {
                let (table, _) = self.place(chain.0 as usize);
                self.to.step(Step::XtTable(table), packet, work);
            }
            other => self.to.step(other, packet, work),
        }
    }
}
