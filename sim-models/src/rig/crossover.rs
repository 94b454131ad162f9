//! Where one mode begins to beat another, by measured and by predicted cells.

use super::cell::{Measurement, blemish};

/// A crossing of two modes at random position with one endpoint, interpolated between neighbouring sizes.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct CellCrossover {
    /// Mode that is lower beyond it.
    pub better: String,
    /// Mode that is lower before it.
    pub worse: String,
    /// From measured cells.
    pub measured: Option<f64>,
    /// From predicted cells.
    pub predicted: Option<f64>,
}

/// Where the other modes begin to beat iptables, by measurement and by prediction.
pub fn crossovers(pairs: &[(Measurement, f64)]) -> Vec<CellCrossover> {
    let curve = |mode: &str, predicted: bool| -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> = pairs
            .iter()
            .filter(|(m, _)| {
                let c = &m.cell;
                blemish(c).is_none()
                    && c.kernel == pairs[0].0.cell.kernel
                    && c.mode == mode
                    && c.endpoints == 1
                    && c.position == "rand"
                    && c.metric == "first_pkt"
            })
            .map(|(m, p)| (f64::from(m.cell.services), if predicted { *p } else { m.value }))
            .collect();
        // Of a size measured twice the better run counts, as within a run.
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        points.dedup_by_key(|p| p.0);
        points
    };
    let crossing = |better: &[(f64, f64)], worse: &[(f64, f64)]| -> Option<f64> {
        let both: Vec<(f64, f64)> = better
            .iter()
            .filter_map(|b| worse.iter().find(|w| w.0 == b.0).map(|w| (b.0, w.1 - b.1)))
            .collect();
        both.windows(2).find(|w| w[0].1 < 0.0 && w[1].1 >= 0.0).map(|w| {
            let ((x0, d0), (x1, d1)) = (w[0], w[1]);
            x0 + (x1 - x0) * -d0 / (d1 - d0)
        })
    };
    let mut modes: Vec<&str> = pairs.iter().map(|(m, _)| m.cell.mode.as_str()).collect();
    modes.sort_unstable();
    modes.dedup();
    modes
        .iter()
        .filter(|m| **m != "ipt" && !curve(m, false).is_empty() && !curve("ipt", false).is_empty())
        .map(|m| CellCrossover {
            better: (*m).to_owned(),
            worse: "ipt".to_owned(),
            measured: crossing(&curve(m, false), &curve("ipt", false)),
            predicted: crossing(&curve(m, true), &curve("ipt", true)),
        })
        .collect()
}
