//! Elements of anonymous sets in general, and the backends that the kernel chooses for them.

use super::fixed::Fixed;
use super::pipapo::Pipapo;
use super::rbtree::Rbtree;
use super::{Backend, Description, Kind, select};
use crate::kernel::nftables::Verdict;
use crate::kernel::nftables::selector::Selector;
use crate::kernel::nftables::test::Item;
use crate::kernel::nftables::value::Bytes;
use sim_core::classify::Family;
use smallvec::SmallVec;

/// A set's or map's elements as registers hold their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Items {
    /// Bytes of each field.
    pub fields: SmallVec<[u8; 4]>,
    /// Elements.
    pub list: Vec<Entry>,
}

/// One element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First value of each field.
    pub from: SmallVec<[Bytes; 2]>,
    /// Last value of each.
    pub to: SmallVec<[Bytes; 2]>,
    /// Verdict, in a map.
    pub verdict: Option<Verdict>,
}

impl Items {
    /// The elements of a set with this key.
    pub fn new(key: &[Selector], items: &[Item], family: Family) -> Self {
        let entry = |item: &Item| {
            let register = |(selector, bytes): (&Selector, &Bytes)| selector.data_type().register(bytes);
            Entry {
                from: key.iter().zip(item.key.iter().map(|(from, _)| from)).map(register).collect(),
                to: key.iter().zip(item.key.iter().map(|(_, to)| to)).map(register).collect(),
                verdict: item.verdict,
            }
        };
        Items {
            fields: key.iter().map(|s| s.data_type().len(family)).collect(),
            list: items.iter().map(entry).collect(),
        }
    }

    fn is_map(&self) -> bool {
        self.list.iter().any(|e| e.verdict.is_some())
    }

    /// What the choice of a backend depends on.
    pub fn description(&self) -> Description {
        let is_single = self.fields.len() == 1;
        let bytes = |b: &u8| if is_single { u32::from(*b) } else { u32::from(*b).next_multiple_of(4) };
        Description {
            key_bytes: self.fields.iter().map(bytes).sum(),
            fields: u32::try_from(self.fields.len()).expect("a handful of fields"),
            size: Some(u32::try_from(self.list.len()).expect("fewer than 2^32 elements")),
            map: self.is_map(),
            interval: self.list.iter().any(|e| e.from != e.to),
            dynamic: false,
        }
    }

    /// The backend that the kernel gives them.
    pub fn backend(&self, seed: u32) -> Backend {
        let d = self.description();
        match select(&d) {
            Kind::Bitmap => {
                let mut bitmap = super::bitmap::Bitmap::default();
                for e in &self.list {
                    bitmap.insert(super::super::value::words(&e.from[0])[0]);
                }
                Backend::Bitmap(Box::new(bitmap))
            }
            Kind::Rbtree => Backend::Rbtree(Box::new(Rbtree::of_items(self))),
            Kind::Pipapo => Backend::Pipapo(Box::new(Pipapo::new(self))),
            Kind::HashFast | Kind::Hash | Kind::Rhash => Backend::Fixed(Box::new(Fixed::new(self, &d, seed))),
        }
    }
}
