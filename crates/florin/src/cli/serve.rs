//! `florin init` and `florin serve`: the files that a platform begins with, and the platform in the foreground.

use super::Common;
use super::reading::Reading;
use super::show::{line, record};
use crate::api::Server;
use crate::api::token::{self, Token};
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::log::{self, Form};
use crate::platform::{Parts, Platform, private_folder};
use crate::signals::EndSignals;
use clap::Args;
use florin_core::id::Seq;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The folder to begin in.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

pub(crate) fn init(args: &InitArgs, common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let path = args.folder.join(config::FILE_NAME);
    if path.exists() {
        return Err(Failure::new("config_exists", format!("{} exists and is left as it is", path.display()))
            .hint("edit it, or begin in another folder"));
    }
    let text = config::fresh(*uuid::Uuid::now_v7().as_bytes());
    let config = Config::parse(&text, args.folder.clone())?;
    private_folder(&args.folder)?;
    private_folder(&config.data())?;
    let token_file = config.path(&config.api.token_file);
    match token::create(&token_file) {
        Ok(()) => {}
        // A token that exists goes on being the operator's.
        Err(failure) if failure.code() == "token_exists" => drop(token::read_text(&token_file)?),
        Err(failure) => return Err(failure),
    }
    // Last: with the configuration written, everything that it names is there.
    write_config(&path, &text)?;
    let shown = json!({
        "config": path.display().to_string(),
        "data": config.data().display().to_string(),
        "token_file": token_file.display().to_string(),
        "platform": config.platform.id,
    });
    record(out, common.json, &shown)?;
    if common.json {
        return Ok(());
    }
    line(out, "\nNext: name your nodes in florin.toml, make keys with 'florin signer init', then run 'florin serve'.")
}

fn write_config(path: &Path, text: &str) -> Result<(), Failure> {
    let unwritable =
        |fault| Failure::new("config_unwritable", format!("{} can't be written", path.display())).because(fault);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(unwritable)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(unwritable)
}

pub(crate) fn serve(common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let config = Config::read(&common.config)?;
    log::start(Form::of_service(common.json), log::filter("info"));
    let token = Token::read(&config.path(&config.api.token_file))?;
    // The data folder's lock comes with the parts: whoever starts a second node by mistake is told of the first one, not of
    // its port.
    let mut parts = Parts::of(&config)?;
    if !common.json {
        let began = Instant::now();
        parts.stores.history = Box::new(Reading::new(parts.stores.history, move || began.elapsed(), say_read));
    }
    let bound = Server::bind(config.api.listen)?;
    let platform = Arc::new(Platform::start(parts)?);
    let server = bound.serve(Arc::clone(&platform), token)?;
    let address = server.address();
    // Before anybody is told that it serves: whoever knows that may tell it to end.
    let signals = EndSignals::catch()?;
    record(out, common.json, &json!({ "listening": format!("http://{address}"), "trust": platform.status().trust }))?;
    drop(out.flush());
    tracing::info!(%address, "florin serves");
    signals.wait();
    tracing::info!("florin stops");
    server.stop();
    if platform.stop() {
        Ok(())
    } else {
        Err(Failure::new(
            "stop_incomplete",
            "not everything became durable in time; what was not answered may be done or not: ask again with the same Idempotency-Key",
        ))
    }
}

/// Says how far the journal is read. It goes to the log: whoever looks there wants to know as much as who sits at a terminal.
fn say_read(at: Seq, end: Seq) {
    let percent = u64::try_from(u128::from(at.0) * 100 / u128::from(end.0.max(1))).unwrap_or(100);
    tracing::info!(row = at.0, of = end.0, percent, "the journal is read");
}
