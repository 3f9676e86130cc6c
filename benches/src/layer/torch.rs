//! PyTorch's fp32 layer as a child process that computes when it is told to: its calls alternate with ours in the same rounds.
//!
//! `benches/peers/torch_layer.py` says what it understands: a line in, a line out. Between calls it sleeps.

use std::cell::RefCell;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::rc::Rc;

use fused_lora_transformer::Config;
use ndarray::Array2;
use tempfile::TempDir;

use super::exchange::{self, Unreadable};
use super::sequences::Sequences;
use super::torch_method::TorchMethod;
use super::weights::Weights;
use crate::method::{Call, Output};
use crate::ring::COLD;
use crate::settings::{Cache, TORCH};
use crate::size::Size;
use crate::time::Time;

/// Why PyTorch does not compute.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// The interpreter does not start.
    #[error("{TORCH}={}: this Python interpreter cannot be started", .python.display())]
    Start {
        /// The interpreter.
        python: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says that something is missing, or failed.
    #[error("{TORCH}: {0}")]
    Said(String),
    /// It is gone.
    #[error("{TORCH}: the Python process is gone ({status}) after \"{request}\"; what it said is above")]
    Gone {
        /// What it was asked.
        request: String,
        /// How it ended.
        status: String,
    },
    /// It answers what nobody understands.
    #[error("{TORCH}: \"{answer}\" is no answer to \"{request}\"")]
    Answer {
        /// What it was asked.
        request: String,
        /// What it said.
        answer: String,
    },
    /// The file that numbers go through.
    #[error("{TORCH}: {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Unreadable,
    },
    /// A folder for that file.
    #[error("{TORCH}: no folder can be made for the weights: {0}")]
    Folder(io::Error),
}

/// How the child is to compute.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The model's sizes.
    pub config: Config,
    /// Threads.
    pub threads: usize,
    /// What is to have left the caches.
    pub cache: Cache,
    /// Bytes of the cache that it is to have left; 0 for a rehearsal.
    pub last_level_cache: usize,
}

/// The child process.
pub struct Torch {
    child: Child,
    /// None once it is told to end.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: TempDir,
    /// PyTorch's version, as in `torch 2.15.0`.
    pub version: String,
    /// The instructions that it uses, by its own account.
    pub simd: String,
}

impl Torch {
    /// Starts the child and waits until PyTorch is loaded.
    ///
    /// # Errors
    ///
    /// If the interpreter does not start, or lacks PyTorch or safetensors: the error names what.
    pub fn start(python: &Path, options: Options) -> Result<Torch, TorchError> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/torch_layer.py");
        Torch::start_script(python, &script, options)
    }

    fn start_script(python: &Path, script: &Path, options: Options) -> Result<Torch, TorchError> {
        let Options { config, threads, cache, last_level_cache } = options;
        let threads = threads.to_string();
        let mut child = Command::new(python)
            .arg(script)
            .args(["--threads", &threads, "--cache", cache.name()])
            .args(["--layers", &config.layers.to_string(), "--heads", &config.heads.to_string()])
            .args(["--distance", &(COLD * last_level_cache).to_string()])
            // Read when the libraries are loaded, before the script can say anything.
            .envs([("OMP_NUM_THREADS", threads.as_str()), ("MKL_NUM_THREADS", &threads)])
            // Threads that wait for work sleep: one that spins would slow down our calls, which come next.
            .envs([("OMP_WAIT_POLICY", "passive"), ("GOMP_SPINCOUNT", "0"), ("KMP_BLOCKTIME", "0")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| TorchError::Start { python: python.to_owned(), source })?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take().expect("its output is a pipe"));
        let folder = tempfile::tempdir().map_err(TorchError::Folder)?;
        let (version, simd) = (String::new(), String::new());
        let mut torch = Torch { child, requests, answers: BufReader::new(answers), folder, version, simd };
        let greeting = torch.answer("start")?;
        let Some((version, simd)) = greeting.split_once(' ') else {
            return Err(TorchError::Answer { request: "start".to_owned(), answer: greeting });
        };
        (torch.version, torch.simd) = (format!("torch {version}"), simd.to_lowercase());
        Ok(torch)
    }

    /// Gives it the weights that there are, and the sequences.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or the child fails.
    pub fn load(&mut self, weights: &Weights, sequences: &Sequences) -> Result<(), TorchError> {
        let path = self.folder.path().join("weights.safetensors");
        exchange::write(&path, weights, sequences)
            .map_err(|source| TorchError::File { path: path.clone(), source })?;
        self.ask(&format!("load {}", path.display()))?;
        // It has them in memory.
        let _ = std::fs::remove_file(path);
        Ok(())
    }

    /// Makes its buffers for a size.
    ///
    /// # Errors
    ///
    /// If the child fails.
    pub fn prepare(&mut self, size: Size) -> Result<(), TorchError> {
        self.ask(&format!("prepare {} {}", size.seq_len, size.batch)).map(drop)
    }

    /// One forward pass on the next of its buffers, timed by its own clocks.
    ///
    /// # Errors
    ///
    /// If the child fails.
    pub fn call(&mut self, method: TorchMethod, rank: usize) -> Result<Time, TorchError> {
        let request = format!("call {} {rank}", method.name());
        let answer = self.ask(&request)?;
        let nanos: Option<Vec<u64>> = answer.split(' ').map(|word| word.parse().ok()).collect();
        match nanos.as_deref() {
            Some(&[wall, cpu]) => Ok(Time { wall: wall as f64 * 1e-9, cpu: Some(cpu as f64 * 1e-9) }),
            _ => Err(TorchError::Answer { request, answer }),
        }
    }

    /// y of the last call: [M, d].
    ///
    /// # Errors
    ///
    /// If the child fails, or its file cannot be read.
    pub fn output(&mut self) -> Result<Array2<f32>, TorchError> {
        let path = self.folder.path().join("y.safetensors");
        self.ask(&format!("output {}", path.display()))?;
        exchange::read(&path, "y").map_err(|source| TorchError::File { path, source })
    }

    fn ask(&mut self, request: &str) -> Result<String, TorchError> {
        let written = self.requests.as_mut().map(|requests| writeln!(requests, "{request}"));
        if !matches!(written, Some(Ok(()))) {
            return Err(self.gone(request));
        }
        self.answer(request)
    }

    /// What stands behind "ok" in the next line.
    fn answer(&mut self, request: &str) -> Result<String, TorchError> {
        let mut line = String::new();
        if !matches!(self.answers.read_line(&mut line), Ok(1..)) {
            return Err(self.gone(request));
        }
        let line = line.trim_end();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("ok", rest) => Ok(rest.to_owned()),
            ("error", rest) => Err(TorchError::Said(rest.to_owned())),
            _ => Err(TorchError::Answer { request: request.to_owned(), answer: line.to_owned() }),
        }
    }

    fn gone(&mut self, request: &str) -> TorchError {
        self.requests = None;
        let status =
            self.child.wait().map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string());
        TorchError::Gone { request: request.to_owned(), status }
    }
}

impl Drop for Torch {
    /// It ends when its input does.
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.child.wait();
    }
}

/// A method of PyTorch's, ready to be timed. Its buffers rotate in the child.
pub struct TorchCall {
    /// The child.
    pub torch: Rc<RefCell<Torch>>,
    /// What it computes.
    pub what: TorchMethod,
    /// At which rank.
    pub rank: usize,
}

impl Call for TorchCall {
    fn call(&mut self, _: usize) -> anyhow::Result<Time> {
        Ok(self.torch.borrow_mut().call(self.what, self.rank)?)
    }

    fn output(&mut self) -> anyhow::Result<Vec<Output>> {
        Ok(vec![Output::F32(self.torch.borrow_mut().output()?)])
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const OPTIONS: Options = Options {
        config: Config { d: 16, heads: 2, mlp: 32, layers: 1 },
        threads: 1,
        cache: Cache::Cold,
        last_level_cache: 0,
    };

    /// A shell that answers as the script is told to.
    fn child(script: &str) -> Result<Torch, TorchError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("child.sh");
        std::fs::write(&path, script).unwrap();
        Torch::start_script(Path::new("sh"), &path, OPTIONS)
    }

    fn refused(result: Result<Torch, TorchError>) -> String {
        result.err().expect("nothing to start").to_string()
    }

    #[test]
    fn it_is_asked_line_by_line() {
        let mut torch = child(
            "echo 'ok 2.0 AVX2'
            while read -r verb rest; do
                case $verb in
                    call) echo \"ok 1${#rest}00 ${#rest}50\" ;;
                    prepare) echo 'error no memory for it' ;;
                    *) echo what ;;
                esac
            done",
        )
        .unwrap();
        assert_eq!((torch.version.as_str(), torch.simd.as_str()), ("torch 2.0", "avx2"));
        // "lora 100" has 8 letters.
        let time = torch.call(TorchMethod::Lora, 100).unwrap();
        assert_eq!((time.wall, time.cpu), (1800.0 * 1e-9, Some(850.0 * 1e-9)));
        let said = torch.prepare(Size { seq_len: 128, batch: 1 }).unwrap_err().to_string();
        assert_eq!(said, "FUSED_LORA_TORCH: no memory for it");
        let said = torch.output().unwrap_err().to_string();
        assert!(said.contains("\"what\" is no answer to \"output "), "{said}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = Torch::start(Path::new("no-such-folder/python"), OPTIONS);
        let text = refused(missing);
        assert!(
            text.contains("FUSED_LORA_TORCH=no-such-folder/python") && text.contains("cannot be started"),
            "{text}"
        );
        assert_eq!(
            refused(child("echo 'error there is no package torch'")),
            "FUSED_LORA_TORCH: there is no package torch"
        );
        let text = refused(child("exit 3"));
        assert!(text.contains("is gone") && text.contains('3') && text.contains("\"start\""), "{text}");
    }

    #[test]
    fn a_child_that_ends_early_is_an_error_of_the_call() {
        let mut torch = child("echo 'ok 2.0 AVX2'; read -r line; exit 0").unwrap();
        let text = torch.call(TorchMethod::None, 0).unwrap_err().to_string();
        assert!(text.contains("\"call none 0\""), "{text}");
    }
}
