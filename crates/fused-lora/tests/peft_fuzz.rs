//! Damaged adapter folders: an error or a success, never a panic, and never an unbounded allocation.

mod support;

use std::{fs, path::Path, sync::OnceLock};

use fused_lora::peft::LoraFile;
use proptest::{collection::vec, prelude::*, sample::Index};
use support::{A, B, Tensor, fixture, safetensors_bytes};

/// Opens and loads everything; true if all went well.
fn reads(folder: &Path) -> bool {
    let Ok(file) = LoraFile::open(folder) else { return false };
    let modules: Vec<_> = file.modules().map(str::to_owned).collect();
    modules.iter().map(|module| file.load(module)).all(|loaded| match loaded {
        Ok(lora) => {
            // What is loaded is fit for a layer.
            assert!(lora.scale.is_finite());
            assert!(lora.a.iter().chain(&lora.b).all(|v| v.is_finite()));
            assert_eq!(lora.a.nrows(), lora.b.ncols());
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    })
}

fn reads_bytes(config: &[u8], weights: &[u8]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("adapter_config.json"), config).unwrap();
    fs::write(folder.path().join("adapter_model.safetensors"), weights).unwrap();
    reads(folder.path())
}

/// Configuration and weights of a small adapter, so that damage hits the header often.
fn whole() -> &'static (Vec<u8>, Vec<u8>) {
    static WHOLE: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let config = fs::read(fixture("r10").join("adapter_config.json")).unwrap();
        let values = |shape| ndarray::Array2::from_shape_fn(shape, |(i, j)| (i as f32 - j as f32) / 64.0);
        let weights =
            safetensors_bytes(&[(A, Tensor::f32(&values((10, 3)))), (B, Tensor::f16(&values((4, 10))))]);
        (config, weights)
    })
}

#[test]
fn the_undamaged_adapter_is_read() {
    let (config, weights) = whole();
    assert!(reads_bytes(config, weights));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn truncated(at in any::<Index>()) {
        let (config, weights) = whole();
        let at = at.index(weights.len());
        prop_assert!(!reads_bytes(config, &weights[..at]), "{} of {} bytes were enough", at, weights.len());
    }

    #[test]
    fn truncated_configuration(at in any::<Index>()) {
        let (config, weights) = whole();
        prop_assert!(!reads_bytes(&config[..at.index(config.len())], weights));
    }

    #[test]
    fn flipped_bits(flips in vec((any::<Index>(), 0u8..8), 1..4)) {
        let (config, weights) = whole();
        let mut weights = weights.clone();
        for (at, bit) in flips {
            let at = at.index(weights.len());
            weights[at] ^= 1 << bit;
        }
        reads_bytes(config, &weights);
    }

    #[test]
    fn flipped_bits_of_the_configuration(flips in vec((any::<Index>(), 0u8..8), 1..4)) {
        let (config, weights) = whole();
        let mut config = config.clone();
        for (at, bit) in flips {
            let at = at.index(config.len());
            config[at] ^= 1 << bit;
        }
        reads_bytes(&config, weights);
    }

    /// Digits are where a header lies: shapes, offsets, the length.
    #[test]
    fn other_digits(changes in vec((any::<Index>(), any::<u8>()), 1..6)) {
        let (config, weights) = whole();
        let mut weights = weights.clone();
        let header = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        let digits: Vec<_> = (8..8 + header).filter(|&at| weights[at].is_ascii_digit()).collect();
        for (which, byte) in changes {
            weights[digits[which.index(digits.len())]] = b"0123456789-.e"[usize::from(byte) % 13];
        }
        reads_bytes(config, &weights);
    }

    #[test]
    fn any_length_of_header(len in any::<u64>(), short in 0u64..1000) {
        let (config, weights) = whole();
        for len in [len, short] {
            let mut weights = weights.clone();
            weights[..8].copy_from_slice(&len.to_le_bytes());
            reads_bytes(config, &weights);
        }
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..200)) {
        let (config, weights) = whole();
        prop_assert!(!reads_bytes(config, &bytes));
        prop_assert!(!reads_bytes(&bytes, weights));
    }
}
