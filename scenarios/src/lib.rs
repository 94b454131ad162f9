//! Scenario files: TOML text -> [`scenario::Scenario`] (as written, with places) -> [`plan::Plan`] (units resolved, sweep
//! expanded, all errors told at once).
//!
//! * [`keys`]: every key, its kind, default, limits and meaning, in one table.
//! * [`tree`], [`scenario`]: the document with its places, and what the command line sets over it.
//! * [`reader`], [`refusal`], [`quantity`], [`endpoints`], [`settings`], [`checks`]: one sweep point, read and checked.
//! * [`proxy`]: `[proxy]`, and the configuration file under it. [`control`]: the cluster in time. [`events`]: its timeline.
//! * [`contradictions`]: settings that cannot be true together.
//! * [`services`]: hand-written Services as Kubernetes objects.
//! * [`sweep`], [`variants`], [`gate`], [`plan`]: what is simulated, and what must hold. [`published`]: what others measured.
//! * [`schema`]: the key table for editors.
//! * [`kube_proxy`]: kube-proxy's own configuration file, which `[proxy]` may name.
//! * [`diagnostic`]: what is wrong, with `file:line:column`, a caret and a "did you mean".
//!
//! Nothing here touches files: the caller reads them and hands over their text.

pub mod checks;
pub mod contradictions;
#[allow(missing_docs, reason = "the fields are the keys of the key table, which documents them")]
pub mod control;
pub mod diagnostic;
pub mod endpoints;
#[allow(missing_docs, reason = "the fields are the keys of the key table, which documents them")]
pub mod events;
pub mod gate;
pub mod keys;
pub mod known;
pub mod kube_proxy;
pub mod plan;
#[allow(missing_docs, reason = "the fields are the keys of the key table, which documents them")]
pub mod proxy;
pub mod published;
pub mod quantity;
pub mod reader;
pub mod refusal;
pub mod scenario;
pub mod schema;
pub mod services;
#[allow(missing_docs, reason = "the fields are the keys of the key table, which documents them")]
pub mod settings;
pub mod sweep;
pub mod tree;
pub mod variants;

#[cfg(test)]
mod tests;
