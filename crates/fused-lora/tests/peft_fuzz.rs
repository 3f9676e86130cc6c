//! Mutations of real adapters and bases: an error of one line or a success, never a panic, a hang, or memory
//! beyond twice the files.
//!
//! Three targets: the headers of safetensors files, the index of a base, and the configuration of an adapter.
//! The corpus are `tests/fixtures/peft` and `tests/fixtures/wild`. In a test run each target has a second;
//! `FUSED_LORA_FUZZ_SECONDS=600 cargo test --release --test peft_fuzz` is the long run, from another seed
//! each time. Without libtest, since the allocator counts for the whole process.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use fused_lora::peft::{BaseModel, Choices, LoraFile};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grown(by: usize) {
    PEAK.fetch_max(NOW.fetch_add(by, Relaxed) + by, Relaxed);
}

// SAFETY: every call goes on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grown(size);
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The memory that may be used beside the files' sizes: regular expressions, names, messages.
const FIXED: usize = 4 << 20;
/// A run that takes longer hangs. The machine may be loaded.
const LONGEST: Duration = Duration::from_secs(20);

/// A corpus entry: a folder with an adapter and a base, and a module of it.
struct Entry {
    name: String,
    base: PathBuf,
    adapter: PathBuf,
    module: String,
    files: Vec<PathBuf>,
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn corpus() -> Vec<Entry> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folders = |name: &str| {
        let mut folders: Vec<_> =
            fs::read_dir(fixtures.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        folders
    };
    let entry = |folder: PathBuf| {
        let case = fs::read(folder.join("case.json")).ok().map(|text| serde_json::from_slice(&text).unwrap());
        let case: Value =
            case.unwrap_or(json!({"base": "base.safetensors", "adapter": ".", "module": "proj"}));
        let text = |key: &str| case[key].as_str().unwrap().to_owned();
        Entry {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            base: text("base").into(),
            adapter: text("adapter").into(),
            module: text("module"),
            files: files_below(&folder).iter().map(|f| f.strip_prefix(&folder).unwrap().to_owned()).collect(),
        }
    };
    folders("peft").into_iter().chain(folders("wild")).map(entry).collect()
}

fn source(entry: &Entry, file: &Path) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folder = fixtures.join("wild").join(&entry.name);
    if folder.is_dir() { folder.join(file) } else { fixtures.join("peft").join(&entry.name).join(file) }
}

/// Reads all that a command would; true if all went well. Errors must be one line that names a file.
fn reads(folder: &Path, entry: &Entry) -> Result<bool, String> {
    let line = |error: String| {
        let named = error.contains(folder.to_str().unwrap()) && !error.contains('\n') && error.len() < 4000;
        if named { Ok(false) } else { Err(format!("an error that is no line with a file: {error:?}")) }
    };
    let adapter = match LoraFile::open(&folder.join(&entry.adapter)) {
        Ok(adapter) => adapter,
        Err(error) => return line(error.to_string()),
    };
    let base = match BaseModel::open(&folder.join(&entry.base)) {
        Ok(base) => base,
        Err(error) => return line(error.to_string()),
    };
    let mut whole = true;
    let modules: Vec<_> = adapter.modules().take(4).map(str::to_owned).collect();
    for module in modules.iter().chain([&entry.module]) {
        let found = match base.resolve(&adapter, module, Choices::default()) {
            Ok(found) => found,
            Err(error) => {
                whole &= line(error.to_string())?;
                continue;
            }
        };
        for note in found.notes() {
            line(format!("{note} {}", folder.display()))?;
        }
        let read = found.read_weight::<f32>(&base, &adapter).map(|w| w.dim());
        let bias = found.read_bias::<f32>(&base, &adapter).map(|b| b.map_or(found.lora.n, |b| b.len()));
        match (read, bias, adapter.load(module)) {
            (Ok(dim), Ok(bias), Ok(lora)) => {
                let (n, k) = dim;
                let fits =
                    bias == n && lora.a.dim() == (found.lora.rank, k) && lora.b.dim() == (n, found.lora.rank);
                let finite = lora.scale.is_finite() && lora.a.iter().chain(&lora.b).all(|v| v.is_finite());
                if !fits || !finite {
                    return Err(format!("{module} was accepted, but is not fit for a layer"));
                }
            }
            (weight, bias, lora) => {
                let errors = [weight.err(), bias.err(), lora.err()];
                for error in errors.into_iter().flatten() {
                    line(error.to_string())?;
                }
                whole = false;
            }
        }
    }
    Ok(whole)
}

/// What stands where it hurts.
const TOKENS: &[&str] = &[
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "NaN",
    "18446744073709551615",
    "9223372036854775808",
    "[]",
    "{}",
    "\"\"",
    "(",
    "[",
    "(?=",
    ".*",
    "(.*)*",
    "(a|b|ab)*c",
    "{0,999999}",
    "\\u0000",
    "\n",
    "../",
    "F16",
    "U8",
    "[0]",
    "lora_A",
    "base_layer",
    ".default",
    "_orig_mod.",
    "weight",
    "model.",
    "\u{1b}[2J",
    "\u{0301}",
];

fn mutate_bytes(bytes: &mut Vec<u8>, random: &mut SmallRng) {
    let at = |random: &mut SmallRng, len: usize| random.random_range(0..=len);
    match random.random_range(0..7) {
        _ if bytes.is_empty() => bytes.push(random.random()),
        0 => {
            let i = random.random_range(0..bytes.len());
            bytes[i] ^= 1 << random.random_range(0..8);
        }
        1 => bytes.truncate(at(random, bytes.len())),
        2 => {
            let token = TOKENS[random.random_range(0..TOKENS.len())].bytes();
            let i = at(random, bytes.len());
            bytes.splice(i..i, token);
        }
        3 => {
            let from = at(random, bytes.len());
            let to = (from + random.random_range(0..40)).min(bytes.len());
            bytes.drain(from..to);
        }
        4 => {
            let from = at(random, bytes.len());
            let to = (from + random.random_range(0..40)).min(bytes.len());
            let copy = bytes[from..to].to_vec();
            let i = at(random, bytes.len());
            bytes.splice(i..i, copy);
        }
        5 => {
            // A digit, which in a header is a shape, an offset, or the length.
            let digits: Vec<_> = (0..bytes.len()).filter(|i| bytes[*i].is_ascii_digit()).collect();
            if !digits.is_empty() {
                let i = digits[random.random_range(0..digits.len())];
                bytes[i] = b"0123456789-.e"[random.random_range(0..13)];
            }
        }
        _ => {
            let len: u64 = random.random();
            let len = len >> random.random_range(0..64);
            bytes.iter_mut().zip(len.to_le_bytes()).for_each(|(byte, new)| *byte = new);
        }
    }
}

/// Changes one value, key or element somewhere in the tree.
fn mutate_json(value: &mut Value, random: &mut SmallRng) {
    let inner = match value {
        Value::Object(entries) if !entries.is_empty() => {
            let i = random.random_range(0..entries.len());
            let key = entries.keys().nth(i).unwrap().clone();
            match random.random_range(0..4) {
                0 => {
                    entries.remove(&key);
                    return;
                }
                1 => {
                    let value = entries.remove(&key).unwrap();
                    entries.insert(format!("{key}{}", TOKENS[random.random_range(0..TOKENS.len())]), value);
                    return;
                }
                _ => entries.get_mut(&key),
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let i = random.random_range(0..items.len());
            items.get_mut(i)
        }
        _ => None,
    };
    match inner {
        Some(inner) if random.random_range(0..3) > 0 => mutate_json(inner, random),
        _ => {
            let token = TOKENS[random.random_range(0..TOKENS.len())];
            *value = match random.random_range(0..5) {
                0 => json!(token),
                1 => json!([token, "q_proj"]),
                2 => json!({token: random.random_range(-3..300)}),
                3 => json!(random.random_range(-3..300)),
                _ => serde_json::from_str(token).unwrap_or(Value::Null),
            }
        }
    }
}

/// The header of a safetensors file through `mutate_json`, with its length put right; others as they are.
fn mutate(bytes: &mut Vec<u8>, is_tensors: bool, random: &mut SmallRng) {
    if random.random_range(0..2) == 0 {
        (0..random.random_range(1..4)).for_each(|_| mutate_bytes(bytes, random));
        return;
    }
    let header = if is_tensors {
        8..8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
    } else {
        0..bytes.len()
    };
    let Ok(mut json) = serde_json::from_slice::<Value>(&bytes[header.clone()]) else { return };
    (0..random.random_range(1..4)).for_each(|_| mutate_json(&mut json, random));
    let text = json.to_string();
    if is_tensors {
        bytes[..8].copy_from_slice(&(text.len() as u64).to_le_bytes());
    }
    bytes.splice(header, text.bytes());
}

/// Whether a file of the corpus is one of a target's.
type Target<'a> = &'a dyn Fn(&Path) -> bool;

/// Runs one target until its time is over.
fn fuzz(
    target: &str,
    corpus: &[Entry],
    seconds: f64,
    is_target: impl Fn(&Path) -> bool,
    random: &mut SmallRng,
) {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let (mut runs, mut accepted) = (0usize, 0usize);
    let mut worst = (0.0, Duration::ZERO);
    'time: loop {
        for entry in corpus {
            let root = folder.path().join(&entry.name);
            let targets: Vec<_> = entry.files.iter().filter(|file| is_target(file)).collect();
            if targets.is_empty() {
                continue;
            }
            let mut total = 0;
            for file in &entry.files {
                let to = root.join(file);
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                let bytes = fs::read(source(entry, file)).unwrap();
                total += bytes.len();
                fs::write(to, bytes).unwrap();
            }
            for _ in 0..20 {
                let file = targets[random.random_range(0..targets.len())];
                let original = fs::read(source(entry, file)).unwrap();
                let mut bytes = original.clone();
                mutate(&mut bytes, file.extension().is_some_and(|end| end == "safetensors"), random);
                fs::write(root.join(file), &bytes).unwrap();
                let (before, since) = (NOW.load(Relaxed), Instant::now());
                PEAK.store(before, Relaxed);
                let result = catch_unwind(AssertUnwindSafe(|| reads(&root, entry)));
                let (peak, took) = (PEAK.load(Relaxed) - before, since.elapsed());
                let fault = match result {
                    Err(_) => Some("it panicked".to_owned()),
                    Ok(Err(fault)) => Some(fault),
                    Ok(Ok(_)) if took > LONGEST => Some(format!("it took {took:?}")),
                    Ok(Ok(_)) if peak > FIXED + 2 * total => {
                        Some(format!("it used {peak} bytes for {total}"))
                    }
                    Ok(Ok(whole)) => {
                        accepted += usize::from(whole);
                        None
                    }
                };
                if let Some(fault) = fault {
                    let kept = env::temp_dir()
                        .join(format!("fused-lora-{target}-{}", file.display()).replace('/', "-"));
                    fs::write(&kept, &bytes).unwrap();
                    panic!("{}: {} as in {}: {fault}", entry.name, file.display(), kept.display());
                }
                worst = (f64::max(worst.0, peak as f64 / 1e6), worst.1.max(took));
                fs::write(root.join(file), original).unwrap();
                runs += 1;
                if started.elapsed().as_secs_f64() > seconds {
                    break 'time;
                }
            }
        }
    }
    println!(
        "{target}: {runs} mutations, {accepted} accepted, at most {:.1} MB and {:?} each",
        worst.0, worst.1
    );
    assert!(runs > 20 && accepted > 0 && accepted < runs, "{target}: {accepted} of {runs} accepted");
}

fn main() {
    let corpus = corpus();
    let setting =
        env::var("FUSED_LORA_FUZZ_SECONDS").ok().map(|s| s.parse::<f64>().expect("a number of seconds"));
    let seed = match setting {
        Some(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        None => 17,
    };
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let whole = corpus.iter().filter(|entry| {
        let root = source(entry, Path::new(""));
        reads(&root, entry).unwrap_or_else(|fault| panic!("{}: {fault}", entry.name))
    });
    let whole = whole.count();
    assert!(whole >= 12, "only {whole} entries of the corpus are read undamaged");
    let seconds = setting.unwrap_or(1.0);
    let ends = |ends: &'static str| move |file: &Path| file.to_str().unwrap().ends_with(ends);
    let is_tensors = ends(".safetensors");
    let is_part = |file: &Path| {
        is_tensors(file)
            && !["x.safetensors", "input.safetensors", "expected.safetensors"].map(Path::new).contains(&file)
    };
    // Names of targets may be given, so that they can run side by side.
    let chosen: Vec<_> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let targets: [(&str, Target<'_>); 3] =
        [("header", &is_part), ("index", &ends("index.json")), ("config", &ends("adapter_config.json"))];
    for (target, is_target) in targets {
        if chosen.is_empty() || chosen.iter().any(|name| name == target) {
            fuzz(target, &corpus, seconds, is_target, &mut random);
        }
    }
}
