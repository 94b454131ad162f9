//! nf_tables.

/// One nf_tables table.
#[derive(Clone, Debug, Default)]
pub struct Table {}
