//! PyTorch as a child process that computes when it is told to: its calls alternate with ours in the same
//! rounds.
//!
//! `benches/peers/torch_child.py` says what it understands: a line in, a line out. Between calls it sleeps.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::rc::Rc;

use anyhow::{Context as _, anyhow, bail};
use fused_lora_records::{Record, workspace_root};
use ndarray::Array2;
use tempfile::TempDir;

use crate::method::{Call, Method, Ready};
use crate::settings::{Backend, Settings, TORCH};
use crate::time::Time;
pub use tensors::Tensors;

mod tensors;

/// What the child runs, the first of them, with the others beside it: a bench may be away from its work tree.
const SCRIPTS: [(&str, &str); 4] = [
    ("torch_child.py", include_str!("../../peers/torch_child.py")),
    ("torch_worker.py", include_str!("../../peers/torch_worker.py")),
    ("torch_layer.py", include_str!("../../peers/torch_layer.py")),
    ("torch_linears.py", include_str!("../../peers/torch_linears.py")),
];

/// PyTorch, started.
pub struct Torch {
    child: Rc<RefCell<Child>>,
    /// Names of the methods that it offers, and whether there is none at rank 0. A base stands before what is
    /// compared with it.
    pub methods: Vec<(String, bool)>,
    /// Its versions, as in `torch 2.15.0`.
    driver: String,
    /// The instructions that it uses on a CPU, by its own account.
    simd: String,
}

struct Child {
    process: std::process::Child,
    answers: BufReader<ChildStdout>,
    folder: TempDir,
    /// How many kinds of weights it has.
    weights: usize,
    /// Names of methods that it has turned out not to have.
    skipped: BTreeSet<String>,
}

impl Torch {
    /// Starts the child for a workload, where PyTorch is asked for, and waits until it is loaded. The error
    /// names what is missing: the interpreter, PyTorch, safetensors, a GPU.
    pub fn start(settings: &Settings, workload: &[&str]) -> anyhow::Result<Option<Torch>> {
        let device = match settings.backend {
            Backend::Cpu => "cpu".to_owned(),
            Backend::Cuda => format!("cuda:{}", settings.device),
        };
        let adapters = settings.mix.to_string();
        let of_all = ["--cache", settings.cache.name(), "--device", &device, "--adapters", &adapters];
        let arguments = [workload, &of_all].concat();
        let Some(python) = &settings.torch else { return Ok(None) };
        // A name is looked for in PATH; a path is the workspace's, not that of the package whose bench runs.
        let is_path = python.components().count() > 1;
        let python = if is_path { &workspace_root().join(python) } else { python };
        Torch::start_script(python, &SCRIPTS, &arguments).map(Some)
    }

    pub(crate) fn start_script(
        python: &Path,
        scripts: &[(&str, &str)],
        arguments: &[&str],
    ) -> anyhow::Result<Torch> {
        let folder = tempfile::tempdir().context(format!("{TORCH}: no folder can be made for its files"))?;
        for (name, text) in scripts {
            fs::write(folder.path().join(name), text)?;
        }
        let threads = rayon::current_num_threads().to_string();
        let mut process = Command::new(python)
            .arg(folder.path().join(scripts[0].0))
            .args(arguments)
            .args(["--threads", &threads])
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
        let answers = BufReader::new(process.stdout.take().context("its output is a pipe")?);
        let mut child = Child { process, answers, folder, weights: 0, skipped: BTreeSet::new() };
        let greeting = child.answer("start")?;
        let mut words = greeting.splitn(3, ' ');
        let (Some(simd), Some(names), Some(versions)) = (words.next(), words.next(), words.next()) else {
            return Err(no_answer("start", &greeting));
        };
        let method = |name: &str| (name.trim_end_matches('+').to_owned(), name.ends_with('+'));
        Ok(Torch {
            methods: names.split(',').map(method).collect(),
            driver: versions.to_owned(),
            simd: simd.trim_matches('-').to_owned(),
            child: Rc::new(RefCell::new(child)),
        })
    }

    /// Gives it the weights, of so many kinds, where it has had fewer, and x of a size. Between two uses of
    /// its buffers as many bytes of others are touched as in a ring of so many slots of f16; a call is so
    /// many passes. What was ready before is no longer.
    pub fn prepare(
        &self,
        (kinds, weights): (usize, impl FnOnce(&mut Tensors)),
        x: impl FnOnce(&mut Tensors),
        slots: usize,
        passes: usize,
        seq_len: usize,
    ) -> anyhow::Result<()> {
        let mut child = self.child.borrow_mut();
        if child.weights < kinds {
            child.load(weights)?;
            child.weights = kinds;
        }
        child.load(x)?;
        child.ask(&format!("prepare {slots} {passes} {seq_len}")).map(drop)
    }

    /// A method of its own, ready to be timed; one that turns out not to be had is named on stderr, once.
    /// `called` hears of each call.
    pub fn ready(&self, method: &Method, called: Box<dyn Fn()>) -> anyhow::Result<Ready> {
        let mut child = self.child.borrow_mut();
        let name = &method.names[0];
        let of = format!("{name} {}", method.rank);
        let missing = child.ask(&format!("ready {of}"))?;
        if missing.is_empty() {
            return Ok(Some(Box::new(TorchCall { child: Rc::clone(&self.child), of, called })));
        }
        if child.skipped.insert(name.clone()) {
            eprintln!("skipped: {name}: {missing}");
        }
        Ok(None)
    }

    /// Puts into a record what computed it.
    pub fn describe(&self, record: &mut Record) {
        (record.driver, record.simd) = (self.driver.clone(), self.simd.clone());
    }
}

impl Child {
    fn load(&mut self, put: impl FnOnce(&mut Tensors)) -> anyhow::Result<()> {
        let path = self.folder.path().join("operands.safetensors");
        let mut tensors = Tensors::default();
        put(&mut tensors);
        tensors.write(&path).with_context(|| format!("{TORCH}: {}", path.display()))?;
        self.ask(&format!("load {}", path.display()))?;
        // It has them in memory.
        let _ = fs::remove_file(path);
        Ok(())
    }

    fn ask(&mut self, request: &str) -> anyhow::Result<String> {
        match self.process.stdin.as_mut().map(|requests| writeln!(requests, "{request}")) {
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
        let status = self.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        anyhow!("{TORCH}: the Python process is gone ({status}) after \"{request}\"; what it said is above")
    }
}

fn no_answer(request: &str, answer: &str) -> anyhow::Error {
    anyhow!("{TORCH}: \"{answer}\" is no answer to \"{request}\"")
}

impl Drop for Child {
    /// It ends when its input does, which waiting for it closes.
    fn drop(&mut self) {
        let _ = self.process.wait();
    }
}

/// A method of PyTorch's.
struct TorchCall {
    child: Rc<RefCell<Child>>,
    /// Name and rank, as requests have them.
    of: String,
    called: Box<dyn Fn()>,
}

impl Call for TorchCall {
    /// Timed by the child's own clocks. Its slots hold the same numbers, and it takes them in turn: of a
    /// wider element type, fewer slots are as many bytes.
    fn call(&mut self, _: usize) -> anyhow::Result<Time> {
        (self.called)();
        let request = format!("call {}", self.of);
        let answer = self.child.borrow_mut().ask(&request)?;
        let seconds: Option<Vec<f64>> =
            answer.split(' ').map(|nanos| Some(nanos.parse::<f64>().ok()? * 1e-9)).collect();
        match seconds.as_deref() {
            Some(&[wall]) => Ok(Time { wall, cpu: None }),
            Some(&[wall, cpu]) => Ok(Time { wall, cpu: Some(cpu) }),
            _ => Err(no_answer(&request, &answer)),
        }
    }

    /// It was made anew by the last call, which was this method's.
    fn output(&mut self) -> anyhow::Result<Vec<Array2<f32>>> {
        let mut child = self.child.borrow_mut();
        let path = child.folder.path().join("y.safetensors");
        child.ask(&format!("output {}", path.display()))?;
        tensors::read(&path).with_context(|| format!("{TORCH}: {}", path.display()))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::testing::method;

    /// A shell that answers as the script is told to.
    fn child(script: &str) -> anyhow::Result<Torch> {
        Torch::start_script(Path::new("sh"), &[("child.sh", script)], &[])
    }

    fn ready(torch: &Torch, name: &str, rank: usize) -> anyhow::Result<Ready> {
        torch.ready(&method(name, rank, None), Box::new(|| ()))
    }

    #[test]
    fn it_is_asked_line_by_line() {
        let torch = child(
            "echo 'ok avx2 torch-x/base,torch-x/vllm+ torch 2.0, CUDA 13'
            while read -r verb rest; do
                case $verb in
                    load) loads=$((loads + 1)); echo ok ;;
                    ready) test \"$rest\" = 'vllm 10' && echo ok it is missing || echo ok ;;
                    call) echo \"ok 1${#rest}00.5 ${#rest}50\" ;;
                    prepare) echo \"error $rest, files $loads\" ;;
                    *) echo what ;;
                esac
            done",
        )
        .unwrap();
        let offered = [("torch-x/base".to_owned(), false), ("torch-x/vllm".to_owned(), true)];
        assert_eq!((torch.driver.as_str(), torch.simd.as_str()), ("torch 2.0, CUDA 13", "avx2"));
        assert_eq!(torch.methods, offered);
        let mut lora = ready(&torch, "lora", 100).unwrap().expect("it is there");
        assert!(ready(&torch, "vllm", 10).unwrap().is_none());
        // "lora 100" has 8 letters.
        let time = lora.call(7).unwrap();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-15;
        assert!(close(time.wall, 1800.5e-9) && close(time.cpu.unwrap(), 850e-9), "{time:?}");
        // The weights go once, unless there are more of them.
        for (kinds, files) in [(1, 2), (1, 3), (2, 5)] {
            let said = torch.prepare((kinds, |_| ()), |_| (), 3, 20, 128).unwrap_err().to_string();
            assert_eq!(said, format!("FUSED_LORA_TORCH: 3 20 128, files {files}"));
        }
        let said = lora.output().unwrap_err().to_string();
        assert!(said.contains("\"what\" is no answer to \"output "), "{said}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = |result: anyhow::Result<Torch>| result.err().expect("nothing to start").to_string();
        let settings = Settings { torch: Some("no-such-folder/python".into()), ..Settings::default() };
        let error = Torch::start(&settings, &["linears"]).err().expect("nothing to start");
        let path = workspace_root().join("no-such-folder/python");
        let said = format!("FUSED_LORA_TORCH={}: this Python interpreter cannot be started", path.display());
        assert_eq!(error.to_string(), said);
        assert!(Torch::start(&Settings::default(), &["linears"]).unwrap().is_none());
        assert_eq!(
            refused(child("echo 'error there is no package torch'")),
            "FUSED_LORA_TORCH: there is no package torch"
        );
        let text = refused(child("exit 3"));
        assert!(text.contains("is gone") && text.contains('3') && text.contains("\"start\""), "{text}");
    }

    #[test]
    fn a_child_that_ends_early_is_an_error_of_the_call() {
        let torch = child("echo 'ok - none torch 2.0'; read -r line; echo ok; exit 0").unwrap();
        let text = ready(&torch, "none", 0).unwrap().unwrap().call(0).unwrap_err().to_string();
        assert!(text.contains("\"call none 0\""), "{text}");
    }
}
