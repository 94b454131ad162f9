//! Comparisons and lookups in general: `tcp dport { 22, 80-90 }`, `ct state established,related`,
//! `iifname vmap { "lo" : accept }`.
//!
//! kube-proxy's own have statements of their own ([`Statement`](super::Statement)); what others have put into its table
//! is read into these where its parts are known. Source: nftables `src/expression.c`, `src/json.c`.

use super::expr::Order;
use super::selector::Selector;
use super::value::{Bytes, DataType, number};
use super::{Statement, Table, Verdict};
use smallvec::SmallVec;

/// Fields of a key.
pub type Selectors = SmallVec<[Selector; 2]>;

/// A comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// What is compared. More than one only with [`Right::Items`].
    pub key: Selectors,
    /// Bits that are looked at, of a single field.
    pub mask: Option<u32>,
    /// `!=`.
    pub negate: bool,
    /// With what.
    pub right: Right,
}

/// The right side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// A value.
    Is(Bytes),
    /// One of these bits is set.
    AnyOf(u32),
    /// Less or greater than a value.
    Order(Order, Bytes),
    /// From one value to another.
    Range(Bytes, Bytes),
    /// Any element of an anonymous set.
    Items(Vec<Item>),
}

/// An element of an anonymous set: of each field the first and the last value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Fields of the key.
    pub key: SmallVec<[(Bytes, Bytes); 2]>,
    /// Verdict, in a map.
    pub verdict: Option<Verdict>,
}

/// `KEY vmap { ITEM : VERDICT, ... }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictMap {
    /// Fields of the key.
    pub key: Selectors,
    /// Elements as written.
    pub items: Vec<Item>,
}

impl Statement {
    /// Whether its expression makes connection tracking run when it is loaded (`nft_ct_get_init`, `nft_ct_set_init`,
    /// `nft_nat.c`, `nft_masq.c`).
    pub fn needs_conntrack(&self) -> bool {
        let of = |key: &Selectors| key.iter().any(|selector| matches!(selector, Selector::Ct(_)));
        match self {
            Statement::CtStateNew
            | Statement::CtStatusDnat
            | Statement::Dnat(_)
            | Statement::DnatNumgen(_)
            | Statement::Masquerade { .. }
            | Statement::MarkFromCt
            | Statement::CtMarkSet(_)
            | Statement::CtMarkFromMark => true,
            Statement::Test(test) => of(&test.key),
            Statement::VerdictMap(map) => of(&map.key),
            _ => false,
        }
    }
}

impl Item {
    /// Whether it is one value and no range.
    pub fn is_single(&self) -> bool {
        self.key.iter().all(|(from, to)| from == to)
    }
}

/// The length of the prefix that a range is, if it is one and not a single value.
fn prefix(from: &[u8], to: &[u8]) -> Option<u32> {
    let of = |bytes: &[u8]| bytes.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
    let (from_n, to_n) = (of(from), of(to));
    let hosts = (from_n ^ to_n).count_ones();
    let is_prefix = (from_n ^ to_n).trailing_ones() == hosts && from_n.trailing_zeros() >= hosts;
    (hosts > 0 && is_prefix).then(|| from.len() as u32 * 8 - hosts)
}

impl Table {
    fn key_text(&self, key: &[Selector], out: &mut String) {
        for (i, selector) in key.iter().enumerate() {
            out.push_str(if i > 0 { " . " } else { "" });
            selector.print(self.family, out);
        }
    }

    pub(super) fn test_text(&self, test: &Test, out: &mut String) {
        self.key_text(&test.key, out);
        let kind = test.key[0].data_type();
        let not = if test.negate { "!= " } else { "" };
        match (&test.right, test.mask) {
            (Right::Is(value), Some(mask)) if kind.bits().is_some() => {
                out.push_str(&format!(" {not}"));
                bits_text(kind, number(value), out);
                out.push_str(" / ");
                bits_text(kind, mask, out);
            }
            (Right::Is(value), Some(mask)) => {
                let op = if test.negate { "!=" } else { "==" };
                out.push_str(&format!(" & {mask:#010x} {op} "));
                kind.print(value, out);
            }
            (Right::Is(value), None) => {
                out.push_str(&format!(" {not}"));
                kind.print(value, out);
            }
            (Right::AnyOf(bits), _) => {
                out.push(' ');
                bits_text(kind, *bits, out);
            }
            (Right::Order(order, value), _) => {
                out.push_str(match order {
                    Order::Lt => " < ",
                    Order::Lte => " <= ",
                    Order::Gt => " > ",
                    Order::Gte => " >= ",
                });
                kind.print(value, out);
            }
            (Right::Range(from, to), _) => {
                out.push_str(&format!(" {not}"));
                range_text(kind, from, to, out);
            }
            (Right::Items(items), _) => {
                out.push_str(&format!(" {not}"));
                self.items_text(&test.key, items, out);
            }
        }
    }

    pub(super) fn verdict_map_text(&self, map: &VerdictMap, out: &mut String) {
        self.key_text(&map.key, out);
        out.push_str(" vmap ");
        self.items_text(&map.key, &map.items, out);
    }

    fn items_text(&self, key: &[Selector], items: &[Item], out: &mut String) {
        out.push_str("{ ");
        for (i, item) in items.iter().enumerate() {
            out.push_str(if i > 0 { ", " } else { "" });
            for (j, ((from, to), selector)) in item.key.iter().zip(key).enumerate() {
                out.push_str(if j > 0 { " . " } else { "" });
                range_text(selector.data_type(), from, to, out);
            }
            if let Some(verdict) = item.verdict {
                out.push_str(" : ");
                self.verdict(verdict, out).expect("a string takes any text");
            }
        }
        out.push_str(" }");
    }
}

fn bits_text(kind: DataType, bits: u32, out: &mut String) {
    let names = kind.bits().expect("a type of bits").iter().filter(|(bit, _)| bits & bit != 0);
    out.push_str(&names.map(|(_, name)| *name).collect::<Vec<_>>().join(","));
}

fn range_text(kind: DataType, from: &[u8], to: &[u8], out: &mut String) {
    kind.print(from, out);
    match prefix(from, to).filter(|_| kind == DataType::Addr) {
        Some(len) => out.push_str(&format!("/{len}")),
        None if from != to => {
            out.push('-');
            kind.print(to, out);
        }
        None => {}
    }
}

/// The same in JSON. `verdict` writes one.
pub(super) struct JsonWriter<'a> {
    /// The table.
    pub table: &'a Table,
    /// Writes a verdict.
    pub verdict: &'a dyn Fn(Verdict, &mut String),
}

impl JsonWriter<'_> {
    fn key(&self, key: &[Selector], out: &mut String) {
        if let [only] = key {
            return only.print_json(self.table.family, out);
        }
        out.push_str(r#"{"concat": ["#);
        for (i, selector) in key.iter().enumerate() {
            out.push_str(if i > 0 { ", " } else { "" });
            selector.print_json(self.table.family, out);
        }
        out.push_str("]}");
    }

    /// A comparison.
    pub fn test(&self, test: &Test, out: &mut String) {
        let kind = test.key[0].data_type();
        let op = match (&test.right, test.negate) {
            (Right::AnyOf(_), _) => "in",
            (Right::Order(Order::Lt, _), _) => "<",
            (Right::Order(Order::Lte, _), _) => "<=",
            (Right::Order(Order::Gt, _), _) => ">",
            (Right::Order(Order::Gte, _), _) => ">=",
            (_, true) => "!=",
            (_, false) => "==",
        };
        out.push_str(&format!(r#"{{"match": {{"op": "{op}", "left": "#));
        match test.mask {
            Some(mask) => {
                out.push_str(r#"{"&": ["#);
                self.key(&test.key, out);
                out.push_str(", ");
                if kind.bits().is_some() {
                    bits_json(kind, mask, out)
                } else {
                    out.push_str(&mask.to_string())
                }
                out.push_str("]}");
            }
            None => self.key(&test.key, out),
        }
        out.push_str(r#", "right": "#);
        match &test.right {
            Right::Is(value) if test.mask.is_some() && kind.bits().is_some() => {
                bits_json(kind, number(value), out);
            }
            Right::Is(value) | Right::Order(_, value) => kind.print_json(value, out),
            Right::AnyOf(bits) => bits_json(kind, *bits, out),
            Right::Range(from, to) => range_json(kind, from, to, out),
            Right::Items(items) => self.items(&test.key, items, out),
        }
        out.push_str("}}");
    }

    /// A map to verdicts.
    pub fn verdict_map(&self, map: &VerdictMap, out: &mut String) {
        out.push_str(r#"{"vmap": {"key": "#);
        self.key(&map.key, out);
        out.push_str(r#", "data": "#);
        self.items(&map.key, &map.items, out);
        out.push_str("}}");
    }

    fn items(&self, key: &[Selector], items: &[Item], out: &mut String) {
        out.push_str(r#"{"set": ["#);
        for (i, item) in items.iter().enumerate() {
            out.push_str(if i > 0 { ", " } else { "" });
            out.push_str(if item.verdict.is_some() { "[" } else { "" });
            out.push_str(if key.len() > 1 { r#"{"concat": ["# } else { "" });
            for (j, ((from, to), selector)) in item.key.iter().zip(key).enumerate() {
                out.push_str(if j > 0 { ", " } else { "" });
                range_json(selector.data_type(), from, to, out);
            }
            out.push_str(if key.len() > 1 { "]}" } else { "" });
            if let Some(verdict) = item.verdict {
                out.push_str(", ");
                (self.verdict)(verdict, out);
                out.push(']');
            }
        }
        out.push_str("]}");
    }
}

fn bits_json(kind: DataType, bits: u32, out: &mut String) {
    let names = kind.bits().expect("a type of bits").iter().filter(|(bit, _)| bits & bit != 0);
    let names: Vec<String> = names.map(|(_, name)| format!("\"{name}\"")).collect();
    match &names[..] {
        [only] => out.push_str(only),
        more => out.push_str(&format!("[{}]", more.join(", "))),
    }
}

fn range_json(kind: DataType, from: &[u8], to: &[u8], out: &mut String) {
    match prefix(from, to).filter(|_| kind == DataType::Addr) {
        Some(len) => {
            out.push_str(r#"{"prefix": {"addr": "#);
            kind.print_json(from, out);
            out.push_str(&format!(r#", "len": {len}}}}}"#));
        }
        None if from != to => {
            out.push_str(r#"{"range": ["#);
            kind.print_json(from, out);
            out.push_str(", ");
            kind.print_json(to, out);
            out.push_str("]}");
        }
        None => kind.print_json(from, out),
    }
}
