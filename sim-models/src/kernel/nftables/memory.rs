//! Kernel memory of a table, by slab class: object sizes from the 6.18 kernel's type information.

use super::set::slab_class;

/// Bytes of one rule's own copy: `struct nft_rule` (24), expressions, and user data with the comment.
pub(super) fn rule_bytes(exprs: u32, comment: Option<&str>) -> u64 {
    u64::from(slab_class(24 + exprs + comment.map_or(0, udata_bytes)))
}

/// Bytes of a chain without its rules: `struct nft_chain` (128) or `nft_base_chain` (256), name and comment.
pub(super) fn chain_bytes(name: &str, base: bool, comment: Option<&str>) -> u64 {
    let head = if base { 256 } else { 128 };
    let text = comment.map_or(0, |c| slab_class(udata_bytes(c)));
    u64::from(head + text_bytes(name) + text)
}

/// Bytes of a duplicated string.
pub(super) fn text_bytes(text: &str) -> u32 {
    slab_class(u32::try_from(text.len() + 1).expect("a name"))
}

/// A comment as user data: type, length, text, and the terminating zero.
fn udata_bytes(comment: &str) -> u32 {
    u32::try_from(comment.len() + 3).expect("a comment")
}
