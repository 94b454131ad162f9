//! One measured cell, and the files that hold them.
//!
//! Left out: the columns that say how repetitions of a cell spread; only the best median is read.

/// One cell of a file of measurements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Kernel column, for example `host618`.
    pub kernel: String,
    /// Case column; `grid` where the file has none.
    pub case: String,
    /// Whether the rig had a device for clients outside: it had when files got a column for cases.
    pub outside: bool,
    /// Mode column: `ipt`, `nft`, `nft136`, `ipvs-rr`, ...
    pub mode: String,
    /// Services.
    pub services: u32,
    /// Endpoints of each.
    pub endpoints: u32,
    /// `first`, `mid`, `last`, `rand`, or `NA`.
    pub position: String,
    /// Metric.
    pub metric: String,
}

impl Cell {
    /// The cell's ruleset: everything but position and metric.
    pub fn ruleset(&self) -> Cell {
        Cell { position: String::new(), metric: String::new(), ..self.clone() }
    }
}

/// A measured cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Which.
    pub cell: Cell,
    /// Unit of the value.
    pub unit: String,
    /// Repetitions of which the best median was kept.
    pub reps: u32,
    /// The best median.
    pub value: f64,
}

/// A cell that the model has no figure for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unpredicted(pub String);

impl Unpredicted {
    /// The reason for a metric that is not predicted.
    pub fn metric(name: &str) -> Self {
        let what = if name.ends_with("_user") || name.ends_with("_sys") {
            "the kernel's share of a tool's time is not told apart: the clock ticks in 10 ms"
        } else {
            "not a metric that is predicted"
        };
        Unpredicted(what.to_owned())
    }
}
/// Whether cells of this metric can be predicted at all.
pub fn is_predicted(metric: &str) -> bool {
    metric.starts_with("first_pkt") || metric.starts_with("est_pkt") || metric.starts_with("blob_")
}

/// Why a recorded cell is known to be off, as its authors say; `None` for a sound one.
pub fn blemish(cell: &Cell) -> Option<&'static str> {
    let sized = |services, endpoints| cell.services == services && cell.endpoints == endpoints;
    match cell.kernel.as_str() {
        "host618" if cell.case == "grid" && cell.endpoints == 10 && matches!(cell.services, 2000 | 4000) => {
            Some("host618 E=10 at S=2000/4000 was recorded in a slow episode")
        }
        "host618" if cell.mode == "nft" && matches!(&*cell.metric, "inc_partial_wall" | "inc_del_wall") => {
            Some("nft one-service updates on host618 hold RCU grace periods of 10 to over 100 ms")
        }
        "host618"
            if cell.metric.starts_with("kubeproxy_cpu_") && sized(10_000, 1) && cell.mode != "ipt" =>
        {
            Some("a run of which not every change got a sync of its own: processor time was divided by all changes")
        }
        "host618" if cell.metric == "kubeproxy_peak_rss" && sized(10_000, 1) && cell.mode == "nft136" => {
            Some("the run kept had one sync, the other (314,104 KiB) three: memory had not peaked")
        }
        "host618" | "tcg61"
            if cell.mode == "nft136" && cell.services == 10 && cell.metric == "load_full_wall" =>
        {
            Some("the first ruleset of its kind on the machine: the kernel loaded modules")
        }
        "host618" if cell.case.starts_with("pre121") || (cell.case == "iptnft" && cell.services == 1000) => {
            Some("host618 pre121 and iptnft at S=1000 are doubtful")
        }
        "host618" if cell.case.starts_with("affinity") && sized(100, 2) => {
            Some("host618 affinity at 100x2 is doubtful")
        }
        "uml612ct12" => {
            Some("everything about ipvs with the 4096-bucket connection table is noisy on uml612")
        }
        "uml612" if sized(1000, 10) => Some("uml612 (1000, E=10) is noisy"),
        "uml612" if cell.services == 16_000 => Some("uml612 at S=16000 is noisy"),
        "uml612" if cell.case.ends_with("_tab4096") => {
            Some("the 4096-bucket connection table is noisy on uml612")
        }
        _ => None,
    }
}
/// Reads a file of measurements: a heading with the columns `kernel`, `mode`, `services`, `endpoints`,
/// `position`, `metric`, `unit`, `reps`, `best_median` in any order, `case` optional, others ignored.
///
/// # Errors
/// Every wrong line as `line: what`.
pub fn parse_csv(text: &str) -> Result<Vec<Measurement>, Vec<String>> {
    let mut lines = text.lines().enumerate();
    let Some((_, heading)) = lines.next() else { return Err(vec!["1: the file is empty".to_owned()]) };
    let columns: Vec<&str> = heading.split(',').map(str::trim).collect();
    let place = |name: &str| columns.iter().position(|c| *c == name);
    let required = ["kernel", "mode", "services", "endpoints", "position", "metric", "unit", "best_median"];
    let missing: Vec<&str> = required.into_iter().filter(|c| place(c).is_none()).collect();
    if !missing.is_empty() {
        return Err(vec![format!("1: no column {}; the heading is {heading:?}", missing.join(", "))]);
    }
    let (mut rows, mut errors) = (Vec::new(), Vec::new());
    for (number, line) in lines.filter(|(_, l)| !l.trim().is_empty()) {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let field = |name: &str| place(name).and_then(|i| fields.get(i)).copied().unwrap_or("");
        let mut complain = |name: &str| {
            let what = if fields.len() < columns.len() { "missing" } else { "not a number from zero up" };
            errors.push(format!("{}: column {name}: {what}: {:?}", number + 1, field(name)));
        };
        let services = field("services").parse::<u32>();
        let endpoints = field("endpoints").parse::<u32>();
        let value = field("best_median").parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0);
        let (Ok(services), Ok(endpoints), Some(value)) = (services.clone(), endpoints.clone(), value) else {
            for (bad, name) in [
                (services.is_err(), "services"),
                (endpoints.is_err(), "endpoints"),
                (value.is_none(), "best_median"),
            ] {
                if bad {
                    complain(name);
                }
            }
            continue;
        };
        let case = match field("case") {
            "" => "grid",
            case => case,
        };
        rows.push(Measurement {
            cell: Cell {
                kernel: field("kernel").to_owned(),
                case: case.to_owned(),
                outside: place("case").is_some(),
                mode: field("mode").to_owned(),
                services,
                endpoints,
                position: field("position").to_owned(),
                metric: field("metric").to_owned(),
            },
            unit: field("unit").to_owned(),
            reps: field("reps").parse().unwrap_or(1),
            value,
        });
    }
    if errors.is_empty() { Ok(rows) } else { Err(errors) }
}
