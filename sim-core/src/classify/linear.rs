//! The linear table.
