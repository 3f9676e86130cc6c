//! PyTorch's fp32 layer as a child process that computes when it is told to: its calls alternate with ours in the same rounds.
//!
//! `benches/peers/torch_layer.py` says what it understands: a line in, a line out. Between calls it sleeps.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::rc::Rc;

use anyhow::{Context as _, anyhow, bail};
use fused_lora_transformer::Config;
use ndarray::Array2;
use tempfile::TempDir;

use super::exchange;
use super::variant::{Variant, torch_name};
use super::weights::Weights;
use crate::method::Call;
use crate::ring::COLD;
use crate::settings::{Cache, TORCH};
use crate::size::Size;
use crate::time::Time;

/// How the child is to compute.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Python interpreter that has PyTorch.
    pub python: PathBuf,
    /// Bytes of the cache that it is to have left; 0 for a rehearsal.
    pub last_level_cache: usize,
}

/// The child process.
pub(super) struct Torch {
    child: Child,
    answers: BufReader<ChildStdout>,
    folder: TempDir,
    /// How many variants it has the weights of.
    loaded: usize,
    /// PyTorch's version, as in `torch 2.15.0`.
    pub(super) version: String,
    /// The instructions that it uses, by its own account.
    pub(super) simd: String,
}

impl Torch {
    /// Starts the child and waits until PyTorch is loaded. The error names what is missing: the interpreter, PyTorch, safetensors.
    pub(super) fn start(options: &Options, config: Config, cache: Cache) -> anyhow::Result<Torch> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/torch_layer.py");
        Torch::start_script(options, config, cache, &script)
    }

    fn start_script(options: &Options, config: Config, cache: Cache, script: &Path) -> anyhow::Result<Torch> {
        let Options { python, last_level_cache } = options;
        let threads = rayon::current_num_threads().to_string();
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
            .with_context(|| {
                format!("{TORCH}={}: this Python interpreter cannot be started", python.display())
            })?;
        let answers = BufReader::new(child.stdout.take().context("its output is a pipe")?);
        let folder =
            tempfile::tempdir().context(format!("{TORCH}: no folder can be made for the weights"))?;
        let (version, simd) = (String::new(), String::new());
        let mut torch = Torch { child, answers, folder, loaded: 0, version, simd };
        let greeting = torch.answer("start")?;
        let (version, simd) = greeting.split_once(' ').ok_or_else(|| no_answer("start", &greeting))?;
        (torch.version, torch.simd) = (format!("torch {version}"), simd.to_lowercase());
        Ok(torch)
    }

    /// Gives it the weights that there are, where it has not had them, and makes its buffers for a size.
    pub(super) fn prepare(&mut self, weights: &Weights, size: Size) -> anyhow::Result<()> {
        let variants = weights.variants().len();
        if self.loaded < variants {
            let path = self.folder.path().join("weights.safetensors");
            exchange::write(&path, weights).with_context(|| format!("{TORCH}: {}", path.display()))?;
            self.ask(&format!("load {}", path.display()))?;
            // It has them in memory.
            let _ = std::fs::remove_file(path);
            self.loaded = variants;
        }
        self.ask(&format!("prepare {} {}", size.seq_len, size.batch)).map(drop)
    }

    /// One forward pass on the next of its buffers, timed by its own clocks.
    pub(super) fn call(&mut self, variant: Variant) -> anyhow::Result<Time> {
        let request = format!("call {} {}", torch_name(&variant.name()), variant.rank);
        let answer = self.ask(&request)?;
        let nanos: Option<Vec<u64>> = answer.split(' ').map(|word| word.parse().ok()).collect();
        match nanos.as_deref() {
            Some(&[wall, cpu]) => Ok(Time { wall: wall as f64 * 1e-9, cpu: Some(cpu as f64 * 1e-9) }),
            _ => Err(no_answer(&request, &answer)),
        }
    }

    /// y of the last call: [M, d].
    pub(super) fn output(&mut self) -> anyhow::Result<Array2<f32>> {
        let path = self.folder.path().join("y.safetensors");
        self.ask(&format!("output {}", path.display()))?;
        exchange::read(&path, "y").with_context(|| format!("{TORCH}: {}", path.display()))
    }

    fn ask(&mut self, request: &str) -> anyhow::Result<String> {
        match self.child.stdin.as_mut().map(|requests| writeln!(requests, "{request}")) {
            Some(Ok(())) => self.answer(request),
            _ => Err(self.gone(request)),
        }
    }

    /// What stands behind "ok" in the next line.
    fn answer(&mut self, request: &str) -> anyhow::Result<String> {
        let mut line = String::new();
        if !matches!(self.answers.read_line(&mut line), Ok(1..)) {
            return Err(self.gone(request));
        }
        let line = line.trim_end();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("ok", rest) => Ok(rest.to_owned()),
            ("error", rest) => bail!("{TORCH}: {rest}"),
            _ => Err(no_answer(request, line)),
        }
    }

    fn gone(&mut self, request: &str) -> anyhow::Error {
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        anyhow!("{TORCH}: the Python process is gone ({status}) after \"{request}\"; what it said is above")
    }
}

fn no_answer(request: &str, answer: &str) -> anyhow::Error {
    anyhow!("{TORCH}: \"{answer}\" is no answer to \"{request}\"")
}

impl Drop for Torch {
    /// It ends when its input does, which waiting for it closes.
    fn drop(&mut self) {
        let _ = self.child.wait();
    }
}

/// A method of PyTorch's, ready to be timed. Its buffers rotate in the child.
pub(super) struct TorchCall {
    /// The child.
    pub(super) torch: Rc<RefCell<Torch>>,
    /// What it computes.
    pub(super) variant: Variant,
}

impl Call for TorchCall {
    fn call(&mut self, _: usize) -> anyhow::Result<Time> {
        self.torch.borrow_mut().call(self.variant)
    }

    fn output(&mut self) -> anyhow::Result<Vec<Array2<f32>>> {
        Ok(vec![self.torch.borrow_mut().output()?])
    }
}

#[cfg(all(test, unix))]
mod tests {
    use fused_lora_transformer::{Method, Targets};

    use super::*;

    const CONFIG: Config = Config { d: 16, heads: 2, mlp: 32, layers: 1 };
    const SIZE: Size = Size { seq_len: 128, batch: 1 };

    fn options(python: &str) -> Options {
        Options { python: python.into(), last_level_cache: 0 }
    }

    /// A shell that answers as the script is told to.
    fn child(script: &str) -> anyhow::Result<Torch> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("child.sh");
        std::fs::write(&path, script).unwrap();
        Torch::start_script(&options("sh"), CONFIG, Cache::Cold, &path)
    }

    #[test]
    fn it_is_asked_line_by_line() {
        let mut torch = child(
            "echo 'ok 2.0 AVX2'
            while read -r verb rest; do
                case $verb in
                    load) loads=$((loads + 1)); echo ok ;;
                    call) echo \"ok 1${#rest}00 ${#rest}50\" ;;
                    prepare) echo \"error no memory for it, weights $loads\" ;;
                    *) echo what ;;
                esac
            done",
        )
        .unwrap();
        assert_eq!((torch.version.as_str(), torch.simd.as_str()), ("torch 2.0", "avx2"));
        let variant = Variant::new(Method::LoraFused, Targets::All, 100);
        // "lora 100" has 8 letters.
        let time = torch.call(variant).unwrap();
        assert_eq!((time.wall, time.cpu), (1800.0 * 1e-9, Some(850.0 * 1e-9)));
        let mut weights = Weights::new(CONFIG).unwrap();
        for (variant, loads) in [(variant, 1), (variant, 1), (Variant::NONE, 2)] {
            weights.ensure(variant).unwrap();
            let said = torch.prepare(&weights, SIZE).unwrap_err().to_string();
            assert_eq!(said, format!("FUSED_LORA_TORCH: no memory for it, weights {loads}"));
        }
        let said = torch.output().unwrap_err().to_string();
        assert!(said.contains("\"what\" is no answer to \"output "), "{said}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = |result: anyhow::Result<Torch>| result.err().expect("nothing to start").to_string();
        assert_eq!(
            refused(Torch::start(&options("no-such-folder/python"), CONFIG, Cache::Cold)),
            "FUSED_LORA_TORCH=no-such-folder/python: this Python interpreter cannot be started"
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
        let text = torch.call(Variant::NONE).unwrap_err().to_string();
        assert!(text.contains("\"call none 0\""), "{text}");
    }
}
