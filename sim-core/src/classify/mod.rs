//! Packet classification: what goes in ([`Packet`]), what comes out ([`Verdict`]), and exactly what was done
//! on the way ([`Work`]), with the lookup structures that mechanisms are made of.
//!
//! Nothing here knows a kernel mechanism; `windtunnel-models` builds those out of these parts.

pub mod hash;
pub mod indexed;
pub mod linear;
pub mod packet;
pub mod packet_text;
pub mod verdict;
pub mod work;

pub use packet::{Detail, Family, Packet, Proto, TcpFlags};
pub use packet_text::PacketError;
pub use verdict::Verdict;
pub use work::{Unit, Work};
