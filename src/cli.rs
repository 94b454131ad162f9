//! What can be typed.

mod cluster;
mod explain;
mod rules;

use clap::{Args, Parser, Subcommand, ValueEnum};
pub use cluster::{BackendArg, ClusterArgs};
pub use explain::{ExplainArgs, ExplainFormat, FlagArg, OriginArg};
pub use rules::{FamilyArg, FormatArg, RulesArgs};
use std::path::PathBuf;

/// A wind tunnel for Kubernetes Service networking.
///
/// Simulates whole clusters under each kube-proxy mode: the rules that kube-proxy would write, the lookups that the
/// kernel would do, and what they cost; so that you know before touching a cluster.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    override_usage = "windtunnel [OPTIONS] SCENARIO.toml...\n       windtunnel COMMAND",
    after_help = "\
Examples:
  windtunnel scenarios/4k-services.toml                       which mode, at which size?
  windtunnel scenarios/4k-services.toml --set cluster.services=8000 -o csv
  windtunnel rules --from cluster.json --mode nftables        the rules kube-proxy would write
  kubectl get services,endpointslices,nodes,pods -A -o json | windtunnel rules --from - --mode ipvs
  windtunnel explain --from cluster.json --packet \"tcp 10.244.1.5 > 10.96.0.1:443\"     why no answer?
  windtunnel validate --profile linux-6.18 grid.csv           measured against predicted
  windtunnel list metrics

Exit codes: 0 fine, 1 our fault, 2 usage or input, 3 a gate failed or rules differ, 4 regression, 5 outside the
calibrated range with --strict, 130 interrupted."
)]
pub struct Cli {
    /// What to do; a scenario alone is run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The scenario to run without a command.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios: simulate, write out/<scenario>/<run>/, print the result.
    Run(RunArgs),
    /// Print the rules that kube-proxy would write, or how a node's own differ from them.
    Rules(Box<RulesArgs>),
    /// Walk one packet through a node's rules: which match, where it goes, why it is refused, what it costs.
    Explain(Box<ExplainArgs>),
    /// Hold a cost profile against measurements, cell by cell.
    Validate(ValidateArgs),
    /// List what scenarios can name.
    List {
        /// Which names.
        #[arg(value_enum)]
        what: ListWhat,
    },
    /// Print the JSON Schema of scenario files, for editors.
    #[command(after_help = "Example:\n  windtunnel schema > scenario.schema.json")]
    Schema,
    /// Print shell completions.
    #[command(
        after_help = "Example:\n  windtunnel completions bash > ~/.local/share/bash-completion/completions/windtunnel"
    )]
    Completions {
        /// Shell to complete in.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// `windtunnel run`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windtunnel run scenarios/4k-services.toml scenarios/crossover.toml
  windtunnel run s.toml --set cluster.services=8000 --set 'proxy.modes=[\"ipvs\"]' --seed 7
  windtunnel run s.toml -o json | jq '.points[0].metrics'

Results go to stdout, progress and messages to stderr.")]
pub struct RunArgs {
    /// Scenario files.
    #[arg(required = true, value_name = "SCENARIO.toml")]
    pub scenarios: Vec<PathBuf>,
    /// Set a key over the file's value; a swept key is pinned to it. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Root of all random streams, instead of the scenario's.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Sweep points simulated at the same time; results do not depend on it. Default: one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Where results are written.
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub out: PathBuf,
    /// What is printed on stdout.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    pub output: Format,
    /// Fail with 5 if a figure is extrapolated beyond the calibrated range.
    #[arg(long)]
    pub strict: bool,
}

/// `windtunnel validate`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windtunnel validate --profile linux-6.18 grid.csv
  windtunnel validate --profile linux-6.18 grid.csv --metric first_pkt --max-error 10%")]
pub struct ValidateArgs {
    /// Measurements: a CSV with one cell a row, or a .jsonl with one packet through a recorded dump a line.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where the folders of the recorded dumps are that packets were sent through.
    #[arg(long, value_name = "DIR")]
    pub dumps: Option<PathBuf>,
    /// Cost profile; `windtunnel list profiles` has them.
    #[arg(long)]
    pub profile: String,
    /// Only this metric. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub metric: Vec<String>,
    /// Fail with 3 if a cell is off by more, for example `10%`.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub max_error: Option<f64>,
    /// What is printed on stdout.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    pub output: Format,
}

/// Formats of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned text.
    Table,
    /// JSON.
    Json,
    /// Tidy rows.
    Csv,
    /// GitHub-flavoured Markdown.
    Md,
}

/// What `list` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListWhat {
    /// Proxy modes.
    Modes,
    /// IPVS schedulers.
    Schedulers,
    /// Cost profiles.
    Profiles,
    /// Figures of a run, for gates and charts.
    Metrics,
    /// Distributions of a run, for charts over `distribution` and `cumulative`.
    Distributions,
    /// Figures over time, for charts over `time`.
    Series,
}

fn parse_share(text: &str) -> Result<f64, String> {
    scenarios::quantity::ratio(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_scenario_alone_and_the_run_command_take_the_same_flags() {
        let alone = Cli::parse_from(["windtunnel", "a.toml", "--seed", "7"]);
        assert!(alone.command.is_none());
        assert_eq!((alone.run.scenarios, alone.run.seed), (vec![PathBuf::from("a.toml")], Some(7)));
        let Some(Command::Run(run)) = Cli::parse_from(["windtunnel", "run", "a.toml", "--seed", "7"]).command
        else {
            panic!("not a run");
        };
        assert_eq!((run.scenarios, run.seed), (vec![PathBuf::from("a.toml")], Some(7)));
    }
}
