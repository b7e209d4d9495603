//! The demo: the whole platform on a network in process, and a visible story from a fresh seed to a confirmed withdrawal. Nothing in it is special: the platform is put together from a
//! configuration file as `florin serve` does it, the signer is a process of its own, and the story speaks the HTTP interface.

mod program;
pub mod stage;
pub mod story;
pub mod world;

use crate::api::Server;
use crate::api::token::{self, Token};
use crate::client::Client;
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::log::{self, Form};
use crate::node::rpc::Rpc;
use crate::platform::{Parts, Platform, private_folder};
use crate::signals::EndSignals;
use crate::signer;
use clap::Args;
use florin_chain::bitcoin::network::Network;
use florin_devnet::http::{Credentials, Server as NodeServer, Settling};
use florin_devnet::network::NodeId;
use florin_signer::client::Client as SignerClient;
use florin_signer::keystore::Purpose;
use florin_signer::protocol::{Hello, PROTOCOL, Request};
use florin_signer::sealed::Passphrase;
use stage::Stage;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use story::FreshWallet;
use world::{NODES, World};

/// How long the signer's process may take to start: its key store is slow to open on purpose.
const SIGNER_START: Duration = Duration::from_secs(30);

/// How long it may take to end: it is asked by nobody any more.
const SIGNER_END: Duration = Duration::from_secs(5);

/// The exit code after a signal, as shells have it for an interrupt.
const EXIT_INTERRUPTED: i32 = 130;

/// The pause between two blocks once the story is told and the demo stays up.
const BLOCK_EVERY: Duration = Duration::from_secs(15);

/// Plays the story on a network in process, then stays up
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End after the story; the exit code says whether everything held
    #[arg(long)]
    pub once: bool,
    /// Keep everything in this folder, which must not exist; without it a temporary one is used and removed
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// The port of the HTTP interface; 0 takes a free one
    #[arg(long, default_value_t = 7700)]
    pub port: u16,
    /// Keep the books on this MariaDB server instead of in SQLite files: a file with mysql://user:password@host:port
    #[arg(long, value_name = "FILE")]
    pub mariadb: Option<PathBuf>,
}

/// Runs the demo; with `json` it is told to machines, an object a line.
///
/// # Errors
/// `story_broken` where the story does not hold, and whatever keeps it from being told.
pub fn run(args: &DemoArgs, json: bool) -> Result<(), Failure> {
    // Where the platform has to end the process, its log alone says why.
    log::start(Form::of_output(json), log::filter("error"));
    let stage = if json { Stage::json() } else { Stage::new() };
    stage.line("Florin demo: a whole platform, and a blockchain to run it on. Nothing leaves this machine.");
    // Given up again at once: it only says before anything is made that the port can be had.
    drop(Server::bind(listen(args.port)).map_err(|failure| without_port(failure, args.port))?);
    let folder = Folder::make(args.dir.clone())?;
    let failed = |fault| Failure::new("signer_start_failed", "this program can't be found").because(fault);
    let program = std::env::current_exe().map_err(failed)?;
    let site = Site { folder: folder.path.clone(), port: args.port, mariadb: args.mariadb.clone(), program };
    let demo = Demo::start(&site, World::start()?)?;
    folder.remove_on_signal(&demo)?;
    let (address, florin) = (demo.server.address(), program::command(&site.program, &folder.path));
    stage.line(&format!("\nWhere to look while it runs:\n   http://{address}/api/v1/openapi.json\n   {florin} status"));
    demo.tell(stage.clone())?;
    stage.line("\nThe story is told, and everything held.");
    if args.once {
        return Ok(());
    }
    stage.line(&format!(
        "It stays up and mines a block every {} seconds. Try another shell:\n   {florin} customer list\n   {florin} event tail\nCtrl-C ends it.",
        BLOCK_EVERY.as_secs()
    ));
    loop {
        std::thread::sleep(BLOCK_EVERY);
        demo.world.mine(1)?;
    }
}

/// Where a demo runs.
#[derive(Debug, Clone)]
pub struct Site {
    /// An empty folder for everything it keeps.
    pub folder: PathBuf,
    /// The port of the HTTP interface; 0 takes a free one.
    pub port: u16,
    /// A file with the URL of a MariaDB server, where the books are kept there.
    pub mariadb: Option<PathBuf>,
    /// The `florin` program, which the signer's process runs.
    pub program: PathBuf,
}

/// A running demo. Dropped, it stops everything that it started.
pub struct Demo {
    world: World,
    wallet: FreshWallet,
    server: Server,
    client: Client,
    platform: Arc<Platform>,
    signer: Arc<Mutex<SignerProcess>>,
    _nodes: Vec<NodeServer>,
}

impl Demo {
    /// Starts nodes, signer, platform and interface in a folder.
    ///
    /// # Errors
    /// Whatever can't be started.
    pub fn start(site: &Site, world: World) -> Result<Demo, Failure> {
        let credentials = Credentials { user: "demo".into(), password: hex_secret()? };
        write_secret(&site.folder.join("node.auth"), &format!("{}:{}", credentials.user, credentials.password))?;
        let mut nodes = Vec::new();
        for index in 0..NODES {
            let node = NodeServer::start(world.network(), NodeId(index), 0, &credentials, Settling::AfterEachCall);
            nodes.push(node.map_err(|fault| Failure::new("listen_failed", "a node can't listen").because(fault))?);
        }
        let urls: Vec<String> = nodes.iter().map(|node| format!("http://{}", node.address())).collect();
        let urls: Vec<(&str, &str)> = urls.iter().map(|url| (url.as_str(), "node.auth")).collect();
        Demo::start_on(site, world, &urls, nodes)
    }

    /// As [`Demo::start`], with the platform following one real bitcoind that mirrors the network.
    ///
    /// # Errors
    /// Whatever can't be started.
    pub fn start_on_bitcoind(site: &Site, world: World, url: &str, auth: &str) -> Result<Demo, Failure> {
        write_secret(&site.folder.join("node.auth"), auth)?;
        let world = world.with_mirror(Rpc::new(url.to_owned(), site.folder.join("node.auth")))?;
        Demo::start_on(site, world, &[(url, "node.auth")], Vec::new())
    }

    fn start_on(site: &Site, world: World, nodes: &[(&str, &str)], servers: Vec<NodeServer>) -> Result<Demo, Failure> {
        let bound = Server::bind(listen(site.port)).map_err(|failure| without_port(failure, site.port))?;
        let path = site.folder.join(config::FILE_NAME);
        std::fs::write(&path, configuration(site, bound.address(), nodes)?)
            .map_err(|fault| unwritable(&path, fault))?;
        let config = Config::read(&path)?;
        token::create(&config.path(&config.api.token_file))?;
        let (signer, wallet) = SignerProcess::start(&site.folder.join("signer"), &config, &site.program)?;
        let platform = Arc::new(Platform::start(Parts::of(&config)?)?);
        let token_file = config.path(&config.api.token_file);
        let server = bound.serve(platform.clone(), Token::read(&token_file)?)?;
        let client = Client::new(&format!("http://{}", server.address()), &token::read_text(&token_file)?);
        Ok(Demo { world, wallet, server, client, platform, signer: Arc::new(Mutex::new(signer)), _nodes: servers })
    }

    /// Tells the story on a stage.
    ///
    /// # Errors
    /// `story_broken`, `signer_ended`.
    pub fn tell(&self, stage: Stage) -> Result<(), Failure> {
        let look = || locked(&self.signer).refuse_ended();
        story::tell(stage, &self.client, &self.world, &self.wallet, &look)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.platform.stop();
        locked(&self.signer).end();
    }
}

fn locked(signer: &Mutex<SignerProcess>) -> MutexGuard<'_, SignerProcess> {
    signer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address of the HTTP interface.
fn listen(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A port that can't be had, with the way out of a demo, which nobody configures by a file.
fn without_port(failure: Failure, port: u16) -> Failure {
    match failure.code() {
        "listen_failed" => {
            failure.hint(format!("port {port} may be in use: choose another with --port, or --port 0 for a free one"))
        }
        _ => failure,
    }
}

/// After how many rows a demo has a snapshot: its story is short, and shall have one.
const SNAPSHOT_ROWS: u64 = 50;

/// The configuration of a demo: what `florin init` would write, with these nodes.
fn configuration(site: &Site, listen: SocketAddr, nodes: &[(&str, &str)]) -> Result<String, Failure> {
    let quorum = nodes.len().min(2);
    let trust = if quorum > 1 { "quorum" } else { "single" };
    let fresh = config::fresh(*uuid::Uuid::now_v7().as_bytes());
    let (head, _) = fresh.split_once("# One block for each node").expect("the nodes stand last in the template");
    let mut text = head
        .replace("listen = \"127.0.0.1:7700\"", &format!("listen = \"{listen}\""))
        .replace("# snapshot_rows = 100000", &format!("snapshot_rows = {SNAPSHOT_ROWS}"))
        .replace("quorum = 1", &format!("quorum = {quorum}"))
        .replace("trust = \"single\"\n", &format!("trust = \"{trust}\"\n"));
    if let Some(file) = &site.mariadb {
        let file = std::path::absolute(file).map_err(|fault| unwritable(file, fault))?;
        // The last eight digits of the id are random: enough to keep demos on one server apart.
        let id = uuid::Uuid::now_v7().simple().to_string();
        let prefix = format!("florin_demo_{}", &id[24..]);
        let store = format!("kind = \"mariadb\"\nurl_file = \"{}\"\nprefix = \"{prefix}\"", file.display());
        text = text.replace("kind = \"sqlite\"", &store);
    }
    for (index, (url, auth)) in nodes.iter().enumerate() {
        let _ = write!(
            text,
            "[[bitcoin.node]]\nname = \"node {0}\"\nurl = \"{url}\"\nauth_file = \"{auth}\"\ngroup = \"group {0}\"\n",
            index + 1
        );
    }
    Ok(text)
}

/// The demo's folder; a temporary one is removed in the end.
struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Folder {
    fn make(dir: Option<PathBuf>) -> Result<Folder, Failure> {
        let is_temporary = dir.is_none();
        let path = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("florin-demo-{}", std::process::id())));
        if path.exists() {
            return Err(
                Failure::new("folder_exists", format!("{} exists", path.display())).hint("name another with --dir")
            );
        }
        private_folder(&path)?;
        Ok(Folder { path, is_temporary })
    }
}

impl Folder {
    /// Ends the process in order when it is told to: platform and signer first, which are not to lose their files while they run,
    /// then the folder.
    ///
    /// # Errors
    /// `signals_failed`.
    fn remove_on_signal(&self, demo: &Demo) -> Result<(), Failure> {
        let (platform, signer) = (demo.platform.clone(), demo.signer.clone());
        let path = self.is_temporary.then(|| self.path.clone());
        // Before anybody is told that it runs.
        let signals = EndSignals::catch()?;
        std::thread::spawn(move || {
            signals.wait();
            // It stays locked: the story, which fails from here on, waits for it and says nothing.
            let mut signer = locked(&signer);
            platform.stop();
            signer.end();
            if let Some(path) = path {
                let _ = std::fs::remove_dir_all(path);
            }
            std::process::exit(EXIT_INTERRUPTED);
        });
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The signer, a process of its own, that ends with the demo.
struct SignerProcess {
    child: Child,
}

impl SignerProcess {
    fn start(folder: &Path, config: &Config, program: &Path) -> Result<(SignerProcess, FreshWallet), Failure> {
        let secret = hex_secret()?;
        let passphrase = Passphrase::new(secret.clone())
            .map_err(|fault| Failure::new(fault.code(), "no passphrase for the demo's keys").because(fault))?;
        let fresh = signer::init(folder, config.platform_id(), Network::Regtest, &passphrase, Purpose::Demo)?;
        let passphrase_file = folder.join("passphrase");
        write_secret(&passphrase_file, &secret)?;
        let failed =
            |fault| Failure::new("signer_start_failed", "the signer's process can't be started").because(fault);
        let child = Command::new(program)
            .args(["signer", "serve", "--dir"])
            .arg(folder)
            .arg("--passphrase-file")
            .arg(&passphrase_file)
            // It ends when this process does, and its end of the pipe closes.
            .arg("--until-stdin-closes")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let mut process = SignerProcess { child };
        process.wait_until_up(&folder.join(signer::SOCKET_FILE))?;
        let wallet = FreshWallet { fingerprint: fresh.fingerprint, external: fresh.external, internal: fresh.internal };
        Ok((process, wallet))
    }

    fn wait_until_up(&mut self, socket: &Path) -> Result<(), Failure> {
        let client = SignerClient::new(socket.to_owned(), Duration::from_secs(5));
        let start = Instant::now();
        loop {
            if client.ask(&Request::Hello(Hello { protocol: PROTOCOL })).is_ok() {
                return Ok(());
            }
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || start.elapsed() > SIGNER_START {
                return Err(Failure::new("signer_start_failed", "the signer did not come up"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A platform whose signer is away waits for it, without end; a story does not.
    fn refuse_ended(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(Failure::new("signer_ended", format!("the signer's process has ended ({status})"))
                .hint("nothing else in this demo ends it; what it wrote to standard error says why")),
            Ok(None) | Err(_) => Ok(()),
        }
    }
}

impl SignerProcess {
    /// Has it end in good order, or kills it where that takes too long. It is gone then.
    fn end(&mut self) {
        drop(self.child.stdin.take());
        let start = Instant::now();
        while start.elapsed() < SIGNER_END && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        // One that has ended can't be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for SignerProcess {
    fn drop(&mut self) {
        self.end();
    }
}

fn hex_secret() -> Result<String, Failure> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|fault| Failure::new("entropy_failed", format!("the system gives no randomness: {fault}")))?;
    Ok(florin_core::hex::encode(&bytes))
}

fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| writeln!(file, "{text}")).map_err(|fault| unwritable(path, fault))
}

fn unwritable(path: &Path, fault: std::io::Error) -> Failure {
    Failure::new("folder_unwritable", format!("{} can't be written", path.display())).because(fault)
}
