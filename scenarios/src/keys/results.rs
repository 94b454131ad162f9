//! What is made of a run: `[[gates]]`, `[[charts]]`, `[[variants]]` and `[[published]]`.

use super::{Family, Kind, Section, optional, required, with};

/// `[[gates]]`
pub static GATE: Section = Section {
    title: "[[gates]]",
    keys: &[required(
        "expect",
        Kind::Text,
        "`[mode.]metric < limit`, at every point, or only at one: `... at cluster.services = 4000`. \
         The limit is a quantity or another mode's figure: `ipvs.first_packet_p99 < 0.5 * iptables.first_packet_p99`. \
         `... at variant = after` confines it to a variant; `published within tolerance` judges every [[published]] \
         figure that was not fitted.",
    )],
};

/// `[[charts]]`
pub static CHART: Section = Section {
    title: "[[charts]]",
    keys: &[
        required(
            "x",
            Kind::Text,
            "Swept key of the horizontal axis; or \"time\"; or \"distribution\", the share above each value; or \
             \"cumulative\", the share up to it.",
        ),
        required(
            "y",
            Kind::Name(Family::Figure),
            "Figure of the vertical axis: a metric over a swept key, a series over time, a distribution otherwise.",
        ),
        with("by", Kind::OneOf(&["mode"]), "\"mode\"", "What lines differ by."),
        with("title", Kind::Text, "\"\"", "Heading; empty means one is made from x and y."),
        with("log_x", Kind::Bool, "false", "Logarithmic horizontal axis."),
        with("log_y", Kind::Bool, "false", "Logarithmic vertical axis."),
    ],
};

/// `[[variants]]`
pub static VARIANT: Section = Section {
    title: "[[variants]]",
    keys: &[
        required("name", Kind::Text, "Name in tables and charts."),
        required(
            "set",
            Kind::Set,
            "Keys and the values that they have in this variant: { \"proxy.kubernetes\" = \"1.25\" }.",
        ),
    ],
};

/// `[[published]]`
pub static PUBLISHED: Section = Section {
    title: "[[published]]",
    keys: &[
        with("what", Kind::Text, "\"\"", "What it says, in a few words."),
        required("metric", Kind::Name(Family::Metric), "Metric that it is held against."),
        optional("mode", Kind::Text, "Mode that it is of. Left out: the only one that runs."),
        optional(
            "at",
            Kind::Set,
            "Where: swept keys with one of their values each, and `variant`. Left out: the only point.",
        ),
        optional(
            "less",
            Kind::Set,
            "From where the metric is taken off first, for a published difference: swept keys, `variant` and `mode`; \
             what is left out is as in `at`.",
        ),
        required("value", Kind::Quantity, "The published figure, with its unit."),
        required(
            "tag",
            Kind::OneOf(&["V", "D", "C"]),
            "How it was come by: V read in the source, D read off a chart, C calculated from such.",
        ),
        required("source", Kind::Text, "Link to it."),
        with("fit", Kind::Bool, "false", "Whether the profile was fitted on it, so that it proves nothing."),
        optional(
            "tolerance",
            Kind::Tolerance,
            "How far off the simulated figure may be. Left out: nothing is claimed.",
        ),
    ],
};
