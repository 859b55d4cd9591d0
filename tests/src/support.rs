//! A server of its own for each test: the real binary, real plugin libraries, a folder and a port of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The starter model, as `make model` fetches it.
pub const SMOLLM2: &str = "SmolLM2-135M-Instruct.Q4_1";

/// A folder with plugins, models and a plugins.toml.
pub struct House {
    folder: TempDir,
}

/// A running server of a house. Killed when dropped.
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub address: String,
    /// For requests.
    pub client: reqwest::Client,
    /// Where it runs.
    pub house: House,
}

/// What a server answered.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body; null where it is no JSON.
    pub json: Value,
    /// The body as text.
    pub text: String,
}

impl House {
    /// One with these plugins (`gguf`, `fake`) installed.
    ///
    /// # Panics
    /// When the plugins were not built: `make test` builds them first.
    pub fn with(plugins: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let house = House { folder };
        std::fs::create_dir_all(house.path("plugins")).expect("the folder is ours");
        std::fs::create_dir_all(house.path("models")).expect("the folder is ours");
        for plugin in plugins {
            std::fs::copy(library(plugin), house.path(&format!("plugins/{}", file_name(plugin))))
                .unwrap_or_else(|error| {
                    panic!("the plugin {plugin} is not built ({error}): run `make test`")
                });
        }
        house.config("")
    }

    /// A path in it.
    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Replaces plugins.toml; the folders stand before `text`.
    pub fn config(self, text: &str) -> Self {
        self.edit_config(text);
        self
    }

    /// The same while a server runs in it: in one step, as editors do.
    pub fn edit_config(&self, text: &str) {
        let base = "[plugins]\nfolder = \"plugins\"\n[server]\nport = 0\n";
        std::fs::write(self.path("plugins.new"), format!("{base}{text}\n")).expect("the folder is ours");
        std::fs::rename(self.path("plugins.new"), self.path("plugins.toml")).expect("the folder is ours");
    }

    /// Adds a model file.
    pub fn model(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.path("models").join(name), content).expect("the folder is ours");
        self
    }

    /// Adds the real model by a link to where `make model` put it.
    ///
    /// # Panics
    /// When it is not there.
    pub fn smollm2(self) -> Self {
        let name = format!("{SMOLLM2}.gguf");
        let real = root().join("models").join(&name);
        assert!(real.exists(), "the starter model is missing: run `make model`");
        std::os::unix::fs::symlink(real, self.path("models").join(name)).expect("the folder is ours");
        self
    }

    /// Runs a command of the binary to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// The binary with these arguments, in this house.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(target_folder().join("impetus"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        // Verdicts on plugins are the house's own.
        command.env("XDG_CACHE_HOME", self.path("cache"));
        // And so is what it keeps.
        command.env("XDG_DATA_HOME", self.path("data"));
        command
    }

    /// Starts the server and waits until it listens.
    ///
    /// # Panics
    /// When it ends instead.
    pub fn serve(self) -> Server {
        let command = self.command(&["serve"]);
        self.serve_by(command)
    }

    /// The same by this command of [`House::command`].
    ///
    /// # Panics
    /// When it ends instead.
    pub fn serve_by(self, mut command: Command) -> Server {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary runs");
        let mut first = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut first).expect("stdout is text");
        let address = first.split_whitespace().last().unwrap_or_default().to_owned();
        assert!(address.starts_with("http://127.0.0.1:"), "the server did not start: {first:?}");
        Server { child, address, client: reqwest::Client::new(), house: self }
    }
}

impl Server {
    /// GET.
    ///
    /// # Panics
    /// When the server cannot be reached.
    pub async fn get(&self, path: &str) -> Answer {
        let response = self.client.get(format!("{}{path}", self.address)).send().await;
        Answer::of(response.expect("the server answers")).await
    }

    /// POST of JSON.
    ///
    /// # Panics
    /// When the server cannot be reached.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.send(path, body).await).await
    }

    /// POST of JSON; the body of the answer is still to come.
    ///
    /// # Panics
    /// When the server cannot be reached.
    pub async fn send(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self.client.post(format!("{}{path}", self.address)).json(body);
        request.send().await.expect("the server answers")
    }

    /// Ends it as a crash would, and starts another one in the same house.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn restart(mut self) -> Server {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let house = std::mem::replace(
            &mut self.house,
            House { folder: tempfile::tempdir().expect("a temporary folder can be made") },
        );
        house.serve()
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory of the server and of every process below it, in KiB, shared parts by their share.
    pub fn memory_kib(&self) -> u64 {
        memory_of_tree(self.child.id())
    }

    /// How many processes it has started that are there, and those below these.
    pub fn descendants(&self) -> usize {
        fn below(pid: u32) -> usize {
            children(pid).into_iter().map(|child| 1 + below(child)).sum()
        }
        below(self.child.id())
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("the child is ours")
    }
}

fn memory_of_tree(pid: u32) -> u64 {
    let own = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = own.lines().find_map(|line| line.strip_prefix("Pss:"));
    let own = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    own + children(pid).into_iter().map(memory_of_tree).sum::<u64>()
}

/// The processes that any thread of this one has started.
fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<u32>>()).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    /// What came.
    ///
    /// # Panics
    /// When the body breaks off, or is no text.
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("the body is text");
        Answer { status, headers, json: serde_json::from_str(&text).unwrap_or_default(), text }
    }

    /// The events of a stream: each `data:` line's JSON, and whether `[DONE]` stood at the end.
    ///
    /// # Panics
    /// When a line is no JSON.
    pub fn events(&self) -> (Vec<Value>, bool) {
        let data: Vec<&str> = self.text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let done = data.last() == Some(&"[DONE]");
        let events = &data[..data.len() - usize::from(done)];
        (events.iter().map(|text| serde_json::from_str(text).expect("an event is JSON")).collect(), done)
    }

    /// The text of a chat's answer, whole or streamed.
    pub fn chat_text(&self) -> String {
        if let Some(text) = self.json["choices"][0]["message"]["content"].as_str() {
            return text.to_owned();
        }
        let (events, _) = self.events();
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
    }
}

/// SHA-256 of a file, as `sha256sum` writes it.
///
/// # Panics
/// When the file cannot be read.
pub fn sha256(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().expect("sha256sum is there");
    String::from_utf8(output.stdout).expect("it writes text").chars().take(64).collect()
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// Where cargo put what it built: the folder above this very program's.
pub fn target_folder() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    own.ancestors().nth(2).expect("it lies in target/PROFILE/deps").to_owned()
}

/// A plugin's library as built.
pub fn library(plugin: &str) -> PathBuf {
    target_folder().join(file_name(plugin))
}

/// Its file name.
pub fn file_name(plugin: &str) -> String {
    format!("{}impetus_plugin_{plugin}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}
