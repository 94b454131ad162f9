//! Where a cluster's objects come from: kubectl's JSON, or a scenario.

use crate::cli::RulesArgs;
use crate::commands::load::{load, neighbour, reason, tell};
use crate::exit::Failure;
use crate::terminal;
use scenarios::diagnostic::Diagnostics;
use scenarios::scenario::import_errors;
use sim_models::config::ProxyConfig;
use sim_models::kube::generate::generate;
use sim_models::kube::import::{self, MAX_ERRORS, Options, import_with};
use sim_models::kube::objects::Objects;
use std::fs;
use std::io::Read;
use std::path::Path;

/// Refuses a command line that would read stdin twice.
pub fn one_stdin(args: &RulesArgs) -> Result<(), Failure> {
    let single = [&args.cluster.from, &args.cluster.proxy_config, &args.diff, &args.read];
    let files = single.into_iter().flatten().chain(&args.sync_from);
    if files.filter(|file| *file == Path::new("-")).count() > 1 {
        return Err(Failure::Input("error: only one of the files can be `-`, stdin\n".into()));
    }
    Ok(())
}

/// A file or stdin as text, with the name that messages give it.
pub fn text_of(file: &Path) -> Result<(String, String), Failure> {
    let (name, bytes) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        ("stdin".to_owned(), std::io::stdin().read_to_end(&mut bytes).map(|_| bytes))
    } else {
        (file.display().to_string(), fs::read(file))
    };
    let bytes = bytes.map_err(|error| {
        let mut message = format!("error: cannot read {name}: {}\n", reason(&error));
        if let Some(near) = neighbour(file).filter(|_| error.kind() == std::io::ErrorKind::NotFound) {
            message.push_str(&format!("  = did you mean {near}?\n"));
        }
        Failure::Input(message)
    })?;
    let text = import::text_of(bytes).map_err(|error| {
        Failure::Input(format!("error: {name}:{}:{}: {}\n", error.line, error.column, error.message))
    })?;
    Ok((name, text))
}

/// Objects of what kubectl printed. With `keep_going`, broken ones are told on stderr and left out.
pub fn import_file(file: &Path, keep_going: bool, notes: &mut Vec<String>) -> Result<Objects, Failure> {
    let (name, text) = text_of(file)?;
    let tell_all = |errors: &[_]| {
        let mut diagnostics = Diagnostics::default();
        import_errors(&mut diagnostics, &name, &text, errors, MAX_ERRORS + 1);
        diagnostics
    };
    let imported = import_with(&text, Options { keep_going }).map_err(|errors| tell(tell_all(&errors)))?;
    notes.extend(imported.notes);
    if !imported.errors.is_empty() {
        eprint!("{}", tell_all(&imported.errors).render(terminal::stderr_style()));
        let mut broken: Vec<&str> = imported.errors.iter().map(|error| error.object.as_str()).collect();
        broken.sort_unstable();
        broken.dedup();
        let objects = if broken.len() == 1 { "object was" } else { "objects were" };
        notes.push(format!("{} broken {objects} left out of {name}", broken.len()));
    }
    Ok(imported.objects)
}

/// Objects and proxy of a scenario: of its first point, with the mode if it has it.
pub fn of_scenario(
    path: &Path,
    sets: &[String],
    mode: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<(Objects, ProxyConfig), Failure> {
    let plan = load(path, sets, None)?.plan;
    let first = plan.points.first().ok_or_else(|| Failure::Ours("a plan without points".into()))?;
    let here = plan.points.iter().filter(|point| point.axes == first.axes);
    let point =
        here.into_iter().find(|point| Some(point.config.proxy.mode.as_str()) == mode).unwrap_or(first);
    let config = &point.config;
    if !point.axes.is_empty() {
        let place: Vec<String> = point.axes.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        notes.push(format!("the scenario is a sweep; this is its first point, {}", place.join(", ")));
    }
    let objects = match &config.cluster.objects {
        Some(objects) => Objects::clone(objects),
        None => {
            let made = generate(&config.cluster, config.seed);
            made.map_err(|error| Failure::Input(format!("error: {}: {error}\n", path.display())))?.objects
        }
    };
    Ok((objects, config.proxy.clone()))
}
