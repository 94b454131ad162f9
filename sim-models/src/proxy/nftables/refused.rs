//! What nft 1.0.6 does not take: kube-proxy's whole transaction then fails, for all Services of the family, and is
//! tried again every `syncPeriod` (seen with kube-proxy 1.36.2).

use crate::kernel::nftables::expr::meta::IFACE_NAME;
use crate::kernel::nftables::{Statement, Table};

/// Longest comment of an element, in bytes (libnftnl's `NFTNL_UDATA_COMMENT_MAXLEN`).
pub const LONGEST_COMMENT: usize = 128;

/// Why nft would not load this table, if so.
///
/// Names of Services can do it: the comment of a Service without endpoints is its whole name, which with namespace
/// and port has up to 191 characters.
pub fn refused_by_nft(table: &Table) -> Option<String> {
    for set in &table.sets {
        for element in &set.elements {
            if let Some(comment) = element.comment.as_deref().filter(|c| c.len() > LONGEST_COMMENT) {
                return Some(format!(
                    "nft takes comments of at most {LONGEST_COMMENT} characters, and that of an element of {} has {}: \
                     \"{comment}\" (a Service without endpoints); the whole transaction fails",
                    set.name,
                    comment.len(),
                ));
            }
        }
    }
    for chain in &table.chains {
        for statement in chain.rules.iter().flat_map(|rule| &rule.statements) {
            if let Statement::InIface { name, prefix, .. } = statement
                && name.len() + usize::from(*prefix) > IFACE_NAME - 1
            {
                let most = IFACE_NAME - 1 - usize::from(*prefix);
                return Some(format!("interface name \"{name}\" has more than {most} characters"));
            }
        }
    }
    None
}
