//! Safetensors files: matrices and vectors of f16, bf16 or f32, read one at a time.
//!
//! The header is parsed by the `safetensors` crate, the data is read from the file where it is: a base
//! model's file may be larger than the memory. Bytes become numbers chunk by chunk, so a tensor takes the
//! memory of its result alone, and it does not matter at which offset its bytes lie.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Mutex,
};

use half::{bf16, f16};
use ndarray::{Array1, Array2};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::{foreign, shown::shown};
use crate::{element::Element, problem::DType};

/// The safetensors format allows no longer header.
const MAX_HEADER_LEN: u64 = 100_000_000;
/// The header's length, a little-endian u64, opens the file.
const LENGTH_LEN: u64 = 8;
/// Bytes read at a time.
const CHUNK: usize = 1 << 16;

/// A safetensors file whose header has been read and checked.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    metadata: Metadata,
    /// Where the data begins.
    data: u64,
    /// Locked while it seeks and reads: `matrix` may be called from several threads.
    file: Mutex<File>,
}

/// Why a safetensors file, or a tensor of it, was rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The file cannot be read.
    #[error("cannot read {}", shown(file))]
    Io {
        /// The file.
        file: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not in the safetensors format.
    #[error("{}: not a valid safetensors file", shown(file))]
    Header {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: HeaderError,
    },
    /// The file is of another format, which is known.
    #[error("{} is {what}", shown(file))]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What it is, and what to do.
        what: &'static str,
    },
    /// There is no such tensor.
    #[error("{}: no tensor {tensor:?}; there is {}", shown(file), list(tensors))]
    Missing {
        /// The file.
        file: PathBuf,
        /// The tensor asked for.
        tensor: String,
        /// The tensors in the file.
        tensors: Vec<String>,
    },
    /// A tensor is not as required.
    #[error("{}: tensor {tensor:?} {problem}", shown(file))]
    Tensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        problem: TensorProblem,
    },
}

/// What is wrong with a tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorProblem {
    /// The type of its elements is not supported.
    #[error("has dtype {dtype}, expected F16, BF16 or F32")]
    DType {
        /// The tensor's type, as the file spells it.
        dtype: String,
    },
    /// Its values are quantised: other tensors beside it say how they are to be read.
    #[error("is quantised ({dtype}, with {beside:?} beside it): give the model's unquantised weights")]
    Quantised {
        /// The tensor's type, as the file spells it.
        dtype: String,
        /// A tensor that says so.
        beside: String,
    },
    /// It was saved without its values.
    #[error(
        "has shape [0], so the file holds no weights: DeepSpeed ZeRO-3 or FSDP saved it before the parts \
         were gathered; gather them (zero_to_fp32.py) and save it again"
    )]
    Hollow,
    /// It does not have the expected number of dimensions.
    #[error("has shape {shape:?}, expected {expected} dimension(s)")]
    Dimensions {
        /// The tensor's shape.
        shape: Vec<usize>,
        /// How many dimensions are expected.
        expected: usize,
    },
    /// A dimension is zero.
    #[error("has shape {shape:?}: no dimension may be 0")]
    ZeroSize {
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// An element is NaN or infinite.
    #[error("holds {value} at {index:?}")]
    NotFinite {
        /// The first such element's value.
        value: f32,
        /// The element's index.
        index: Vec<usize>,
    },
    /// A finite element is too large for the type that it is read as.
    #[error("overflows {to}: it holds {value:e} at {index:?}")]
    Overflow {
        /// The type that it is read as.
        to: DType,
        /// The first such element's value.
        value: f32,
        /// The element's index.
        index: Vec<usize>,
    },
}

/// What is wrong with a safetensors header.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file is shorter than its header says.
    #[error("truncated: {needed} bytes are announced, the file has {found}")]
    Truncated {
        /// Bytes required.
        needed: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// The header would be longer than the format allows.
    #[error("a header of {len} bytes is announced, the format allows {MAX_HEADER_LEN}")]
    TooLong {
        /// The announced length.
        len: u64,
    },
    /// The header is not valid JSON of the format, or its shapes, types and offsets contradict each other.
    #[error("bad header: {reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// There are bytes after the last tensor.
    #[error("{found} bytes, but the tensors end at {end}")]
    TrailingBytes {
        /// Where the last tensor ends.
        end: u64,
        /// Bytes of the file.
        found: u64,
    },
}

/// A matrix as the file holds it. bf16 is widened: every bf16 is an f32.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Matrix {
    F16(Array2<f16>),
    F32(Array2<f32>),
}

impl Matrix {
    pub(super) fn into_f32(self) -> Array2<f32> {
        match self {
            Matrix::F16(matrix) => matrix.mapv(f32::from),
            Matrix::F32(matrix) => matrix,
        }
    }
}

impl TensorFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is truncated, or its header contradicts itself or the file's length.
    pub fn open(path: &Path) -> Result<TensorFile, TensorError> {
        let io_error = |source| TensorError::Io { file: path.to_owned(), source };
        let mut file = File::open(path).map_err(io_error)?;
        let len = file.metadata().map_err(io_error)?.len();
        let header = read_header(path, &mut file, len);
        let (metadata, data) = header.map_err(|error| match (&error, known(&mut file)) {
            (TensorError::Header { .. }, Some(what)) => TensorError::Foreign { file: path.to_owned(), what },
            _ => error,
        })?;
        Ok(TensorFile { path: path.to_owned(), metadata, data, file: Mutex::new(file) })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.metadata.offset_keys();
        names.sort_unstable();
        names
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, tensor: &str) -> bool {
        self.metadata.info(tensor).is_some()
    }

    /// The element type of a tensor.
    ///
    /// # Errors
    ///
    /// The tensor is missing, or is of another type than f16, bf16 and f32.
    pub fn dtype(&self, tensor: &str) -> Result<DType, TensorError> {
        match self.info(tensor)?.dtype {
            Dtype::F16 => Ok(DType::F16),
            Dtype::BF16 => Ok(DType::Bf16),
            Dtype::F32 => Ok(DType::F32),
            // Derived from the format's own names, so `F8_E5M2` reads here as it does in the file.
            other => {
                let dtype = format!("{other:?}");
                let problem = match self.quantised(tensor) {
                    Some(beside) => TensorProblem::Quantised { dtype, beside },
                    None => TensorProblem::DType { dtype },
                };
                Err(self.bad(tensor, problem))
            }
        }
    }

    /// A tensor that bitsandbytes, MLX, or a format of 8 bits put beside a quantised weight.
    fn quantised(&self, tensor: &str) -> Option<String> {
        let module = tensor.strip_suffix(".weight")?;
        ["weight.absmax", "weight.SCB", "SCB", "scales", "weight_scale", "weight_scale_inv"]
            .into_iter()
            .map(|part| format!("{module}.{part}"))
            .find(|name| self.contains(name))
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    ///
    /// The tensor is missing.
    pub fn shape(&self, tensor: &str) -> Result<&[usize], TensorError> {
        Ok(&self.info(tensor)?.shape)
    }

    /// Reads a matrix as `T`. What T cannot hold exactly is rounded; a finite value that rounds to infinity
    /// is an error.
    ///
    /// # Errors
    ///
    /// The tensor is missing, does not have two dimensions, has a dimension of size 0, is of another type
    /// than f16, bf16 and f32, or overflows.
    pub fn read_matrix<T: Element>(&self, tensor: &str) -> Result<Array2<T>, TensorError> {
        let shape = self.matrix_shape(tensor)?;
        let elements = self.rounded(tensor)?;
        Ok(Array2::from_shape_vec(shape, elements).expect("the header was checked: shape and data agree"))
    }

    /// Reads a tensor of any dimensions but none as rows of its last one, `[M, K]`, under the rules of
    /// [`read_matrix`](Self::read_matrix): `[K]` is one row, `[batch, seq, K]` are `batch · seq`. Returns its
    /// leading dimensions as well.
    ///
    /// # Errors
    ///
    /// The errors of [`read_matrix`](Self::read_matrix), for one dimension or more.
    pub fn read_rows<T: Element>(&self, tensor: &str) -> Result<(Vec<usize>, Array2<T>), TensorError> {
        let shape = self.checked_shape(tensor, self.shape(tensor)?.len().max(1))?;
        let (leading, columns) = (shape[..shape.len() - 1].to_vec(), shape[shape.len() - 1]);
        let rows = (leading.iter().product(), columns);
        let elements = self.rounded(tensor)?;
        let matrix =
            Array2::from_shape_vec(rows, elements).expect("the header was checked: shape and data agree");
        Ok((leading, matrix))
    }

    /// Reads a vector, under the rules of [`read_matrix`](Self::read_matrix).
    ///
    /// # Errors
    ///
    /// The errors of [`read_matrix`](Self::read_matrix), for one dimension.
    pub fn read_vector<T: Element>(&self, tensor: &str) -> Result<Array1<T>, TensorError> {
        self.checked_shape(tensor, 1)?;
        Ok(Array1::from_vec(self.rounded(tensor)?))
    }

    /// The shape of a matrix without a zero-sized dimension, without reading its data.
    pub(super) fn matrix_shape(&self, tensor: &str) -> Result<[usize; 2], TensorError> {
        let shape = self.checked_shape(tensor, 2)?;
        Ok([shape[0], shape[1]])
    }

    /// Reads a matrix of finite elements, not rounded.
    pub(super) fn matrix(&self, tensor: &str) -> Result<Matrix, TensorError> {
        let shape = self.matrix_shape(tensor)?;
        let mut first = First::default();
        const AGREE: &str = "the header was checked: shape and data agree";
        let matrix = match self.dtype(tensor)? {
            DType::F16 => {
                let elements = self.read(tensor, |bytes| {
                    let value = f16::from_le_bytes(bytes);
                    first.note(value.to_f32(), !value.is_finite());
                    value
                })?;
                Matrix::F16(Array2::from_shape_vec(shape, elements).expect(AGREE))
            }
            _ => {
                let elements = self.floats(tensor, |value| {
                    first.note(value, !value.is_finite());
                    value
                })?;
                Matrix::F32(Array2::from_shape_vec(shape, elements).expect(AGREE))
            }
        };
        match first.found {
            Some((flat, value)) => {
                let index = self.index(tensor, flat);
                Err(self.bad(tensor, TensorProblem::NotFinite { value, index }))
            }
            None => Ok(matrix),
        }
    }

    fn rounded<T: Element>(&self, tensor: &str) -> Result<Vec<T>, TensorError> {
        let mut first = First::default();
        let elements = self.floats(tensor, |value| {
            let narrow = T::from_f32(value);
            first.note(value, narrow.to_f32().is_infinite() && value.is_finite());
            narrow
        })?;
        match first.found {
            Some((flat, value)) => {
                let index = self.index(tensor, flat);
                Err(self.bad(tensor, TensorProblem::Overflow { to: T::DTYPE, value, index }))
            }
            None => Ok(elements),
        }
    }

    /// Reads the elements of a tensor, each by way of f32.
    fn floats<T>(&self, tensor: &str, mut element: impl FnMut(f32) -> T) -> Result<Vec<T>, TensorError> {
        match self.dtype(tensor)? {
            DType::F16 => self.read(tensor, |b| element(f16::from_le_bytes(b).to_f32())),
            DType::Bf16 => self.read(tensor, |b| element(bf16::from_le_bytes(b).to_f32())),
            DType::F32 => self.read(tensor, |b| element(f32::from_le_bytes(b))),
        }
    }

    /// Reads the elements of a tensor, of `SIZE` bytes each.
    fn read<const SIZE: usize, T>(
        &self,
        tensor: &str,
        mut element: impl FnMut([u8; SIZE]) -> T,
    ) -> Result<Vec<T>, TensorError> {
        let (start, end) = self.info(tensor)?.data_offsets;
        let mut read = || -> io::Result<Vec<T>> {
            let mut elements = Vec::new();
            // The length is the file's word, and a sparse file can be longer than any memory.
            elements.try_reserve_exact((end - start) / SIZE)?;
            // A panic while it was locked leaves nothing behind that the seek does not set right.
            let mut file = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            file.seek(SeekFrom::Start(self.data + start as u64))?;
            let mut chunk = vec![0; CHUNK.min(end - start)];
            let mut left = end - start;
            while left > 0 {
                let bytes = &mut chunk[..left.min(CHUNK)];
                file.read_exact(bytes)?;
                let (whole, rest) = bytes.as_chunks::<SIZE>();
                debug_assert!(rest.is_empty(), "the header was checked: whole elements");
                elements.extend(whole.iter().map(|bytes| element(*bytes)));
                left -= bytes.len();
            }
            Ok(elements)
        };
        read().map_err(|source| TensorError::Io { file: self.path.clone(), source })
    }

    fn checked_shape(&self, tensor: &str, dimensions: usize) -> Result<&[usize], TensorError> {
        let shape = &self.info(tensor)?.shape;
        if *shape == [0] {
            return Err(self.bad(tensor, TensorProblem::Hollow));
        }
        if shape.len() != dimensions {
            let (shape, expected) = (shape.clone(), dimensions);
            return Err(self.bad(tensor, TensorProblem::Dimensions { shape, expected }));
        }
        if shape.contains(&0) {
            return Err(self.bad(tensor, TensorProblem::ZeroSize { shape: shape.clone() }));
        }
        Ok(shape)
    }

    fn bad(&self, tensor: &str, problem: TensorProblem) -> TensorError {
        TensorError::Tensor { file: self.path.clone(), tensor: tensor.to_owned(), problem }
    }

    pub(super) fn info(&self, tensor: &str) -> Result<&TensorInfo, TensorError> {
        self.metadata.info(tensor).ok_or_else(|| TensorError::Missing {
            file: self.path.clone(),
            tensor: tensor.to_owned(),
            tensors: self.names(),
        })
    }

    /// The index of element number `flat` of a tensor that is there.
    fn index(&self, tensor: &str, mut flat: usize) -> Vec<usize> {
        let shape = self.metadata.info(tensor).map_or(&[][..], |info| &info.shape);
        let mut index = vec![0; shape.len()];
        for (at, size) in index.iter_mut().zip(shape).rev() {
            *at = flat % size;
            flat /= size;
        }
        index
    }
}

/// Reads the header of a file of `len` bytes; also returns where the data begins.
///
/// The crate's own `SafeTensors::deserialize` would need the whole file in memory, and adds up a header's
/// lengths without a check for overflow.
fn read_header(path: &Path, file: &mut File, len: u64) -> Result<(Metadata, u64), TensorError> {
    let fail = |source| Err(TensorError::Header { file: path.to_owned(), source });
    let io_error = |source| TensorError::Io { file: path.to_owned(), source };
    if len < LENGTH_LEN {
        return fail(HeaderError::Truncated { needed: LENGTH_LEN, found: len });
    }
    let mut length = [0; LENGTH_LEN as usize];
    file.read_exact(&mut length).map_err(io_error)?;
    let header_len = u64::from_le_bytes(length);
    if header_len > MAX_HEADER_LEN {
        return fail(HeaderError::TooLong { len: header_len });
    }
    let data = LENGTH_LEN + header_len;
    if len < data {
        return fail(HeaderError::Truncated { needed: data, found: len });
    }
    // Deserialising checks that the tensors lie one behind the other without gap or overlap, and that shape
    // and type of each give its length. The text is not read at once: a file may announce a long header and
    // hold none.
    let metadata: Metadata = match serde_json::from_reader(BufReader::new(file.take(header_len))) {
        Ok(metadata) => metadata,
        Err(error) if error.is_io() => return Err(io_error(error.into())),
        Err(error) => return fail(HeaderError::Invalid { reason: error.to_string() }),
    };
    match data.checked_add(metadata.data_len() as u64) {
        Some(end) if end == len => Ok((metadata, data)),
        Some(end) if end < len => fail(HeaderError::TrailingBytes { end, found: len }),
        end => fail(HeaderError::Truncated { needed: end.unwrap_or(u64::MAX), found: len }),
    }
}

/// What the file is, if that is known.
fn known(file: &mut File) -> Option<&'static str> {
    let mut head = Vec::new();
    file.rewind().ok()?;
    file.take(foreign::HEAD as u64).read_to_end(&mut head).ok()?;
    foreign::recognise(&head)
}

/// The first element that is not as it must be.
#[derive(Default)]
struct First {
    seen: usize,
    found: Option<(usize, f32)>,
}

impl First {
    fn note(&mut self, value: f32, bad: bool) {
        if bad && self.found.is_none() {
            self.found = Some((self.seen, value));
        }
        self.seen += 1;
    }
}

/// Names for an error message: in quotes (they come out of files), and not thousands of them.
pub(super) fn list(names: &[String]) -> String {
    const SHOWN: usize = 64;
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut shown = names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        shown += &format!(" and {} more", names.len() - SHOWN);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_quoted_and_bounded() {
        assert_eq!(list(&[]), "none");
        assert_eq!(list(&["a\u{1b}[31m".into(), "b".into()]), r#""a\u{1b}[31m", "b""#);
        let many: Vec<_> = (0..100).map(|i| i.to_string()).collect();
        assert!(list(&many).ends_with("\"63\" and 36 more"), "{}", list(&many));
    }
}
