//! What the raw shapes are made of: texts that are not copied, lists that stay short, label maps of which only the
//! labels that mean something are kept.
//!
//! All of them bound the memory of a hostile input: nothing is kept of what no proxy reads.

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

/// A text, borrowed from the input unless it has escapes in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl<'de> Visitor<'de> for Take {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Take)
    }
}

/// A number without a fraction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole(pub i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl Visitor<'_> for Take {
            type Value = Whole;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                // Out of every range that is checked later.
                Ok(Whole(i64::try_from(number).unwrap_or(i64::MAX)))
            }
        }
        deserializer.deserialize_i64(Take)
    }
}

/// Kubernetes' IntOrString.
#[derive(Clone, Debug)]
pub(super) enum NumberOrName<'a> {
    /// A number.
    Number(i64),
    /// A name.
    Name(Text<'a>),
}

impl<'de: 'a, 'a> Deserialize<'de> for NumberOrName<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl<'de> Visitor<'de> for Take {
            type Value = NumberOrName<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a string")
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(NumberOrName::Number(number))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(NumberOrName::Number(i64::try_from(number).unwrap_or(i64::MAX)))
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(NumberOrName::Name(Text(Cow::Borrowed(text))))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(NumberOrName::Name(Text(Cow::Owned(text.to_owned()))))
            }
        }
        deserializer.deserialize_any(Take)
    }
}

/// A list of which the first `MAX` elements are kept and all are counted.
#[derive(Debug)]
pub(super) struct Capped<T, const MAX: usize> {
    kept: Vec<T>,
    /// How many there are.
    pub count: usize,
}

impl<T, const MAX: usize> Deref for Capped<T, MAX> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.kept
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Capped<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Take<T, MAX> {
            type Value = Capped<T, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut kept = Vec::new();
                while kept.len() < MAX {
                    match list.next_element()? {
                        Some(element) => kept.push(element),
                        None => return Ok(Capped { count: kept.len(), kept }),
                    }
                }
                let mut count = kept.len();
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Capped { kept, count })
            }
        }
        deserializer.deserialize_seq(Take(PhantomData))
    }
}

/// Labels, annotations and topology keys that mean something to a proxy or to a controller that is modelled.
pub(super) mod key {
    pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
    pub const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
    pub const HEADLESS: &str = "service.kubernetes.io/headless";
    pub const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
    pub const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
    pub const ZONE: &str = "topology.kubernetes.io/zone";
    pub const HOSTNAME: &str = "kubernetes.io/hostname";
    pub(super) const ALL: [&str; 7] =
        [SERVICE_NAME, SERVICE_PROXY_NAME, HEADLESS, SKIP_MIRROR, LEADER, ZONE, HOSTNAME];
}

/// A map of texts: labels, annotations.
#[derive(Debug, Default)]
pub(super) struct Pairs<'a> {
    /// Those of [`key::ALL`].
    known: Vec<(&'static str, Text<'a>)>,
    /// The first whose key or value could not be a label's.
    pub no_label: Option<(Text<'a>, Text<'a>)>,
    /// Stands for all keys and values, in whatever order; 0 if there are none.
    pub hash: u64,
}

impl Pairs<'_> {
    /// The value of one of [`key`].
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        debug_assert!(key::ALL.contains(&key), "{key} is not kept");
        self.known.iter().rev().find(|(known, _)| *known == key).map(|(_, value)| &**value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl<'de> Visitor<'de> for Take {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Pairs::default();
                while let Some((key, value)) = map.next_entry::<Text<'de>, Text<'de>>()? {
                    pairs.hash = pairs.hash.wrapping_add(hash(&[&key, &value]));
                    if pairs.no_label.is_none() && !(is_label_key(&key) && is_label_value(&value)) {
                        pairs.no_label = Some((key.clone(), value.clone()));
                    }
                    if let Some(known) = key::ALL.into_iter().find(|known| *known == &*key) {
                        pairs.known.push((known, value));
                    }
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Take)
    }
}

/// FNV-1a of some texts, each ended by a byte that no UTF-8 has.
pub(super) fn hash(texts: &[&str]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What a label may say (`apimachinery/pkg/util/validation:IsValidLabelValue`).
pub(super) fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_qualified_part(value)
}

/// `[DNS name/]name` (`IsQualifiedName`).
fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => super::check::names::is_dns_name(prefix) && is_qualified_part(name),
        None => is_qualified_part(key),
    }
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    bytes.len() <= 63
        && bytes.iter().all(inner)
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}
