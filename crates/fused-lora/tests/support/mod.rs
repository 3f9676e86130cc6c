//! What the tests of adapters share, and those of the command in `crates/cli`: the PEFT cases, and files made
//! by hand.

// Each test crate uses its own part of this.
#![allow(dead_code)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use ndarray::Array2;
use safetensors::{SafeTensors, tensor::Dtype};
use serde_json::Value;

/// The layers that PEFT itself ran.
pub(crate) const CASES: [&str; 2] = ["r10", "r100-rslora"];
pub(crate) const A: &str = "base_model.model.proj.lora_A.weight";
pub(crate) const B: &str = "base_model.model.proj.lora_B.weight";

/// The folder of a case.
pub(crate) fn fixture(case: &str) -> PathBuf {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("fused-lora");
    library.join("tests/fixtures/peft").join(case)
}

/// A tensor of a file made by hand: its type as the header spells it, and its bytes.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Tensor {
    pub(crate) fn f32(values: &Array2<f32>) -> Tensor {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor { dtype: "F32", shape: values.shape().to_vec(), bytes }
    }

    pub(crate) fn f16(values: &Array2<f32>) -> Tensor {
        let bytes = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        Tensor { dtype: "F16", shape: values.shape().to_vec(), bytes }
    }

    pub(crate) fn bf16(values: &Array2<f32>) -> Tensor {
        let bytes = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        Tensor { dtype: "BF16", shape: values.shape().to_vec(), bytes }
    }

    pub(crate) fn zeros(dtype: &'static str, bytes_per_element: usize, shape: &[usize]) -> Tensor {
        let bytes = vec![0; bytes_per_element * shape.iter().product::<usize>()];
        Tensor { dtype, shape: shape.to_vec(), bytes }
    }
}

/// A safetensors file, written without the crate that is used to read it.
pub(crate) fn safetensors_bytes(tensors: &[(&str, Tensor)]) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        let (start, end) = (data.len(), data.len() + tensor.bytes.len());
        entries.push(format!(
            r#"{name:?}: {{"dtype": {:?}, "shape": {:?}, "data_offsets": [{start}, {end}]}}"#,
            tensor.dtype, tensor.shape
        ));
        data.extend_from_slice(&tensor.bytes);
    }
    with_header(&format!("{{{}}}", entries.join(", ")), &data)
}

/// A file with this header, whatever it says.
pub(crate) fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Puts `pad` spaces behind the header of a safetensors file, so that its data begins `pad` bytes later.
pub(crate) fn shift_data(bytes: &[u8], pad: usize) -> Vec<u8> {
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut shifted = ((len + pad) as u64).to_le_bytes().to_vec();
    shifted.extend_from_slice(&bytes[8..8 + len]);
    shifted.extend(std::iter::repeat_n(b' ', pad));
    shifted.extend_from_slice(&bytes[8 + len..]);
    shifted
}

/// A matrix of f16, bf16 or f32 out of a file.
pub(crate) fn read_matrix(path: &Path, name: &str) -> Array2<f32> {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(name).unwrap();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F16 => {
            view.data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        Dtype::BF16 => {
            view.data().chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        Dtype::F32 => {
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        }
        other => panic!("{name} has dtype {other:?}"),
    };
    Array2::from_shape_vec((view.shape()[0], view.shape()[1]), values).unwrap()
}

/// Changes keys of a configuration; a `null` stays a `null`, it does not remove the key.
pub(crate) fn edit_config(adapter: &Path, entries: &[(&str, Value)]) {
    let path = adapter.join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in entries {
        config[*key] = value.clone();
    }
    fs::write(path, serde_json::to_vec_pretty(&config).unwrap()).unwrap();
}

/// `‖y − expected‖ / ‖expected‖`
pub(crate) fn relative_error(y: &Array2<f32>, expected: &Array2<f32>) -> f64 {
    assert_eq!(y.dim(), expected.dim());
    let (mut error, mut norm) = (0.0, 0.0);
    for (&y, &expected) in y.iter().zip(expected) {
        let (y, expected) = (f64::from(y), f64::from(expected));
        error += (y - expected).powi(2);
        norm += expected.powi(2);
    }
    (error / norm).sqrt()
}
