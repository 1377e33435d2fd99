//! The command line. `serve`, `catalog dump`, `verify`, `doctor` and `token` work on a store;
//! `status`, `cluster` and `import` ask a running server; `query`, `sql` and `export` do, or read a
//! store; `pull` reads one.
mod cluster;
mod doctor;
mod export;
mod import;
mod opened_store;
mod output;
mod pull;
mod query;
mod remote;
mod sql;
mod status;
mod token;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tidelake_catalog::panics;
use tracing_subscriber::EnvFilter;

use self::cluster::ClusterArgs;
use self::doctor::DoctorArgs;
use self::export::ExportArgs;
use self::import::ImportArgs;
use self::pull::PullArgs;
use self::query::QueryArgs;
use self::sql::SqlArgs;
use self::status::StatusArgs;
use self::token::TokenCommand;
use crate::config::{Config, ConfigArgs};

/// Time-series database on an object store: Prometheus and line protocol in, PromQL and SQL out.
#[derive(Debug, Parser)]
#[command(name = "tidelake", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also what happens without a command)
    Serve(ConfigArgs),
    /// Look into the catalog
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// Make, list and revoke tokens, for servers that run with --auth
    #[command(subcommand)]
    Token(TokenCommand),
    /// Check everything on the store and report what is damaged; reads only, also beside a server
    Verify(ConfigArgs),
    /// Check a store before or beside a server: what it can, rights, clock, speed, orphans, its
    /// price
    Doctor(DoctorArgs),
    /// Import files into a running server: OpenMetrics, Prometheus' text format, its storage, dumps
    /// of promtool, line protocol, CSV, Parquet
    Import(ImportArgs),
    /// Export what a running server, or a store without one, holds: OpenMetrics, line protocol,
    /// Parquet, CSV, JSON lines
    Export(ExportArgs),
    /// Copy a time range of tables or series from a store into a folder that a local server then
    /// serves
    Pull(PullArgs),
    /// Ask a running server, or a store without one, in PromQL: a table, CSV, JSON or a graph
    Query(QueryArgs),
    /// Run SQL on a running server, or on a store without one, at a prompt if no statement is given
    Sql(SqlArgs),
    /// Show how a running server does
    Status(StatusArgs),
    /// Show the processes of the store of a running server
    Cluster(ClusterArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Debug, Subcommand)]
enum CatalogCommand {
    /// Print the catalog's checkpoint and log as JSON lines; reads only
    Dump(ConfigArgs),
}

/// Parses the command line, runs the command, and says how the process ends: 0 after a clean stop,
/// 1 after a failure or when damage was found, 2 for wrong usage or settings, 3 when a newer
/// process took over this node, 4 when the write-ahead log ended by a defect and the next start
/// replays it. `give_back` has the allocator return at once what was freed.
pub fn run(give_back: fn()) -> ExitCode {
    ExitCode::from(run_from(std::env::args_os(), give_back))
}

/// The same with a given command line, the program's name first; returns the exit code.
pub fn run_from(args: impl IntoIterator<Item = OsString>, give_back: fn()) -> u8 {
    let cli = Cli::parse_from(args);
    let command = cli.command.unwrap_or(Command::Serve(cli.config));
    let args = match &command {
        Command::Serve(args)
        | Command::Catalog(CatalogCommand::Dump(args))
        | Command::Verify(args) => Some(args),
        Command::Token(command) => Some(command.config()),
        Command::Doctor(args) => Some(args.config()),
        // They ask a server, which has the settings.
        _ => None,
    };
    let config = match args.map(ConfigArgs::resolve).transpose() {
        Ok(config) => config.unwrap_or_default(),
        Err(error) => return complain(2, &error.to_string()),
    };
    let printed = match &command {
        Command::Completions { shell } => Some(completions(*shell)),
        Command::Man => Some(manual()),
        _ => None,
    };
    if let Some(text) = printed {
        return print(&text);
    }
    // What a check sees is in its answer.
    let log = match &command {
        Command::Doctor(_) => "off",
        // Of a store that is read without a server.
        Command::Query(_) | Command::Sql(_) | Command::Export(_) | Command::Pull(_) => "error",
        _ => "info",
    };
    start_log(&config, log);
    panics::install();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return complain(1, &format!("cannot start worker threads: {error}")),
    };
    let result = match command {
        Command::Serve(_) => runtime.block_on(crate::server::serve(config, give_back)),
        Command::Catalog(CatalogCommand::Dump(_)) => runtime.block_on(dump_catalog(config)),
        Command::Verify(_) => runtime.block_on(verify(config)),
        Command::Doctor(args) => {
            let out = &mut std::io::stdout();
            runtime.block_on(doctor::run(&args, &config, out))
        }
        Command::Token(command) => {
            let out = &mut std::io::stdout();
            runtime.block_on(token::run(command, &config, out))
        }
        Command::Import(args) => {
            let out = &mut std::io::stdout();
            runtime.block_on(import::run(&args, out))
        }
        Command::Export(args) => {
            let out = &mut std::io::stdout();
            runtime.block_on(export::run(&args, out))
        }
        Command::Pull(args) => {
            let out = &mut std::io::stdout();
            runtime.block_on(pull::run(&args, out))
        }
        Command::Query(args) => {
            let out = &mut std::io::stdout();
            runtime.block_on(query::run(&args, out))
        }
        Command::Sql(args) => {
            let out = &mut std::io::stdout();
            runtime.block_on(sql::run(&args, out))
        }
        Command::Status(args) => {
            let out = &mut std::io::stdout();
            runtime.block_on(status::run(&args, out))
        }
        Command::Cluster(args) => {
            let out = &mut std::io::stdout();
            runtime.block_on(cluster::run(&args, out))
        }
        // They are printed already.
        Command::Completions { .. } | Command::Man => Ok(0),
    };
    // Whatever still runs (a stuck blocking read, say) must not hold up the exit: all that counts
    // was waited for.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) if output::is_unread(&error) => 0,
        Err(error) => complain(1, &format!("{error:#}")),
    }
}

fn completions(shell: Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidelake", &mut out);
    out
}

/// A page for the program, and one after it for each command.
fn manual() -> Vec<u8> {
    let mut out = Vec::new();
    let mut page = |command: clap::Command| {
        // Writing into memory cannot fail.
        let _ = clap_mangen::Man::new(command).render(&mut out);
    };
    let program = Cli::command();
    page(program.clone());
    for command in program.get_subcommands() {
        page(
            command
                .clone()
                .display_name(format!("tidelake-{}", command.get_name())),
        );
    }
    out
}

fn print(text: &[u8]) -> u8 {
    match std::io::stdout().write_all(text).map_err(Into::into) {
        Err(error) if !output::is_unread(&error) => complain(1, &error.to_string()),
        _ => 0,
    }
}

async fn dump_catalog(config: Config) -> anyhow::Result<u8> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    crate::node::backend::dump_catalog(&config, &mut out).await?;
    out.flush()?;
    Ok(0)
}

async fn verify(config: Config) -> anyhow::Result<u8> {
    let is_clean = crate::verify::verify(&config, &mut std::io::stdout()).await?;
    Ok(if is_clean { 0 } else { 1 })
}

fn start_log(config: &Config, default: &str) {
    // A filter given as a setting beats RUST_LOG, and that beats the default.
    let given = (config.log != Config::default().log).then_some(config.log.as_str());
    let filter = given.and_then(|log| EnvFilter::try_new(log).ok());
    let filter = filter
        .or_else(|| EnvFilter::try_from_default_env().ok())
        .unwrap_or_else(|| EnvFilter::new(default));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A second start in one process (tests) keeps the first log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .try_init();
}

fn complain(code: u8, message: &str) -> u8 {
    // Nothing is left to do when not even the complaint can be written.
    let _ = writeln!(std::io::stderr(), "tidelake: {message}");
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serve_is_the_default_command() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        let bare = Cli::try_parse_from(["tidelake", "--listen", "127.0.0.1:1"]).unwrap();
        assert!(bare.command.is_none());
        assert_eq!(bare.config.listen.as_deref(), Some("127.0.0.1:1"));
        let named =
            Cli::try_parse_from(["tidelake", "serve", "--store", "memory:", "--s3-allow-http"])
                .unwrap();
        let Some(Command::Serve(args)) = named.command else {
            panic!("not serve")
        };
        assert_eq!(
            (args.store.as_deref(), args.s3_allow_http),
            (Some("memory:"), Some(true))
        );
        assert!(matches!(
            Cli::try_parse_from(["tidelake", "catalog", "dump", "--data-dir", "x"])
                .unwrap()
                .command,
            Some(Command::Catalog(CatalogCommand::Dump(_)))
        ));
        assert!(matches!(
            Cli::try_parse_from(["tidelake", "verify"]).unwrap().command,
            Some(Command::Verify(_))
        ));
        assert!(Cli::try_parse_from(["tidelake", "--no-such-flag"]).is_err());
    }
}
