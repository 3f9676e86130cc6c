//! The files through which PyTorch gets the numbers that this library computes with, and gives its y back:
//! safetensors.

use std::path::Path;

use anyhow::{bail, ensure};
use ndarray::{Array2, ArrayBase, Data, Dimension};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::number::Number;

/// Name, type, shape and bytes of each.
#[derive(Default)]
pub struct Tensors(Vec<(String, Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    /// Puts one.
    pub fn put<S: Data<Elem: Number>, D: Dimension>(&mut self, name: &str, values: &ArrayBase<S, D>) {
        let bytes = values.iter().flat_map(|value| value.to_bytes()).collect();
        self.0.push((name.to_owned(), S::Elem::TENSOR, values.shape().to_vec(), bytes));
    }

    /// Puts one number, an f32.
    pub fn put_number(&mut self, name: &str, value: f32) {
        self.0.push((name.to_owned(), Dtype::F32, vec![1], value.to_le_bytes().to_vec()));
    }

    /// Writes them all.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut views = Vec::new();
        for (name, dtype, shape, bytes) in &self.0 {
            views.push((name, TensorView::new(*dtype, shape.clone(), bytes)?));
        }
        Ok(safetensors::serialize_to_file(views, None, path)?)
    }
}

/// Reads the matrices of f32 that are named by their numbers.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Array2<f32>>> {
    let bytes = std::fs::read(path)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let matrix = |number: usize| {
        let tensor = tensors.tensor(&number.to_string())?;
        ensure!(tensor.dtype() == Dtype::F32, "{number} is {:?}, not F32", tensor.dtype());
        let &[rows, columns] = tensor.shape() else { bail!("{number} is no matrix: {:?}", tensor.shape()) };
        let (values, _) = tensor.data().as_chunks::<4>();
        let values = values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        Ok(Array2::from_shape_vec((rows, columns), values)?)
    };
    (0..tensors.len()).map(matrix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_come_back_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("y.safetensors");
        let put = |name, dtype, shape: &[usize], bytes: &[u8]| {
            let tensor = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
            safetensors::serialize_to_file([(name, tensor)], None, &path).unwrap();
        };
        put("0", Dtype::F32, &[1, 2], [1.5f32, -2.0].map(f32::to_le_bytes).as_flattened());
        assert_eq!(read(&path).unwrap(), [ndarray::array![[1.5, -2.0]]]);
        let refused = || read(&path).unwrap_err().to_string();
        put("1", Dtype::F32, &[1, 1], &[0; 4]);
        assert!(refused().contains('0'));
        put("0", Dtype::F32, &[2], &[0; 8]);
        assert_eq!(refused(), "0 is no matrix: [2]");
        put("0", Dtype::F16, &[1, 1], &[0; 2]);
        assert_eq!(refused(), "0 is F16, not F32");
        assert!(read(&folder.path().join("none")).unwrap_err().is::<std::io::Error>());
    }
}
