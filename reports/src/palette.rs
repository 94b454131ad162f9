//! How lines of modes look: colour, dashes and marker, so that they differ in print and to the colour-blind.
//!
//! Colours are those of Okabe and Ito, "Color Universal Design" (2008). The modes that everyone knows have a look
//! of their own that is the same in every chart; any other mode gets a look by its position.

use plotters::style::RGBColor;

/// Shape of the marker at each point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// Filled circle.
    Circle,
    /// Filled square.
    Square,
    /// Filled triangle.
    Triangle,
    /// Filled diamond.
    Diamond,
}

/// Look of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Colour of line, marker and label.
    pub colour: RGBColor,
    /// Length of dashes and of gaps in pixels; `None` is a solid line.
    pub dash: Option<(u32, u32)>,
    /// Shape of markers.
    pub marker: Marker,
}

const fn look(colour: (u8, u8, u8), dash: Option<(u32, u32)>, marker: Marker) -> Look {
    Look { colour: RGBColor(colour.0, colour.1, colour.2), dash, marker }
}

/// Looks by position; the first five are those of the known modes.
const LOOKS: [Look; 7] = [
    look((213, 94, 0), None, Marker::Circle),
    look((0, 114, 178), Some((9, 4)), Marker::Square),
    look((0, 158, 115), Some((3, 3)), Marker::Triangle),
    look((204, 121, 167), Some((14, 4)), Marker::Diamond),
    look((230, 159, 0), Some((6, 6)), Marker::Circle),
    look((86, 180, 233), None, Marker::Square),
    look((0, 0, 0), Some((2, 5)), Marker::Diamond),
];

/// Modes with a look of their own.
const KNOWN: [&str; 5] = ["iptables", "ipvs", "nftables", "ebpf", "userspace"];

/// The looks of `modes`, in their order.
pub fn looks(modes: &[impl AsRef<str>]) -> Vec<Look> {
    let modes: Vec<&str> = modes.iter().map(AsRef::as_ref).collect();
    let known = |mode: &str| KNOWN.iter().position(|known| *known == mode);
    let mut free = (0..LOOKS.len()).filter(|i| !modes.iter().any(|mode| known(mode) == Some(*i)));
    let mut at = |mode: &&str| known(mode).or_else(|| free.next());
    modes.iter().enumerate().map(|(i, mode)| LOOKS[at(mode).unwrap_or(i % LOOKS.len())]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_looks_the_same_in_whatever_company_and_no_two_look_alike() {
        let all = looks(&["nftables", "strange", "ipvs", "stranger"]);
        assert_eq!((all[0], all[2]), (LOOKS[2], LOOKS[1]));
        for (i, one) in all.iter().enumerate() {
            assert!(!all[i + 1..].contains(one));
        }
    }
}
