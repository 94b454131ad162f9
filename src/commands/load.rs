//! A scenario and its import from disk: text -> `Scenario` -> `Plan`.

use crate::cli::Command;
use crate::exit::Failure;
use crate::known::known;
use crate::terminal;
use clap::Subcommand;
use scenarios::diagnostic::{Diagnostics, did_you_mean};
use scenarios::plan::Plan;
use scenarios::scenario::Scenario;
use std::fs;
use std::path::Path;

/// A plan, and the text of what it imports.
pub struct Loaded {
    /// What to simulate.
    pub plan: Plan,
    /// Text of `cluster.import`, empty without one: results depend on it.
    pub import: String,
    /// Text of `proxy.config`, empty without one: results depend on it.
    pub proxy_config: String,
}

/// Reads and plans one scenario with the command line's `--set` and `--seed`.
pub fn load(path: &Path, sets: &[String], seed: Option<u64>) -> Result<Loaded, Failure> {
    let text = read_scenario(path)?;
    let mut scenario = Scenario::parse(&path.display().to_string(), &text).map_err(tell)?;
    for set in sets {
        scenario.set(set);
    }
    if let Some(seed) = seed {
        scenario.set(&format!("seed={seed}"));
    }
    let import = read_import(path, &mut scenario);
    let proxy_config = read_proxy_config(path, &mut scenario);
    let plan = Plan::new(&scenario, &known()).map_err(tell)?;
    Ok(Loaded { plan, import, proxy_config })
}

/// Diagnostics as a failure of the input.
pub fn tell(diagnostics: Diagnostics) -> Failure {
    Failure::Input(diagnostics.render(terminal::stderr_style()))
}

/// The text of the scenario. A word that is neither a file nor a command is most likely a mistyped command.
fn read_scenario(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        let mut message = format!("error: cannot read {}: {}\n", path.display(), reason(&error));
        let word = path.display().to_string();
        if !word.contains(['/', '.']) {
            let commands = Command::augment_subcommands(clap::Command::new("windtunnel"));
            let names: Vec<&str> = commands.get_subcommands().map(|c| c.get_name()).collect();
            if let Some(near) = did_you_mean(&word, names.iter().copied()) {
                message.push_str(&format!("  = did you mean the command `{near}`?\n"));
            }
        } else if let Some(near) = neighbour(path) {
            message.push_str(&format!("  = did you mean {near}?\n"));
        }
        Failure::Input(message)
    })
}

/// A file of the same folder with nearly the same name.
pub fn neighbour(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut names: Vec<String> =
        fs::read_dir(folder).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    let near = did_you_mean(path.file_name()?.to_str()?, names.iter().map(String::as_str))?;
    (path.file_name()?.to_str()? != near).then(|| path.with_file_name(near).display().to_string())
}

/// Reads the file that the scenario imports, relative to the scenario.
fn read_import(path: &Path, scenario: &mut Scenario) -> String {
    let Some(import) = scenario.import() else { return String::new() };
    let file = path.parent().unwrap_or(Path::new("")).join(import);
    match fs::read_to_string(&file) {
        Ok(text) => {
            scenario.import_text(&file.display().to_string(), &text);
            text
        }
        Err(error) => {
            scenario.import_failed(&format!("{}: {}", file.display(), reason(&error)));
            String::new()
        }
    }
}

/// Reads kube-proxy's configuration that the scenario names, relative to the scenario.
fn read_proxy_config(path: &Path, scenario: &mut Scenario) -> String {
    let Some(config) = scenario.proxy_config() else { return String::new() };
    let file = path.parent().unwrap_or(Path::new("")).join(config);
    match fs::read_to_string(&file) {
        Ok(text) => {
            scenario.proxy_config_text(&file.display().to_string(), &text);
            text
        }
        Err(error) => {
            scenario.proxy_config_failed(&format!("{}: {}", file.display(), reason(&error)));
            String::new()
        }
    }
}

/// The reason of an I/O error as a person would say it.
pub fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::IsADirectory => "it is a directory".into(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".into(),
        _ => error.to_string(),
    }
}
