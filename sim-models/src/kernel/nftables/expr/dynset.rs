//! `dynset`: updates a set from a rule (`net/netfilter/nft_dynset.c:nft_dynset_eval`): the timeout of an element
//! that is there is refreshed, another is inserted; if the set is full the rule breaks.

/// `update @SET { KEY }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dynset {
    /// Named set, by position in the table.
    pub set: u32,
    /// First register of the key.
    pub sreg: u8,
}
