//! How rules are compiled.

/// What a compiler lets pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileOptions {
    /// Compile rules with parts that are kept as text. Such a rule decides nothing from that part on, so that the verdict
    /// is that of the rules that are known, and a warning names each that may change it.
    pub allow_opaque: bool,
}
