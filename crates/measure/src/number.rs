//! The element types that are measured.

use fused_lora::AdapterElement;
use fused_lora::reference::Sums;
use half::{bf16, f16};
use safetensors::Dtype;

/// An element type of x, W, A, B and y.
pub trait Number: AdapterElement<Self> {
    /// What the names of PyTorch's methods in this type begin with.
    const TORCH: &'static str;
    /// The type in a safetensors file.
    const TENSOR: Dtype;
    /// How the reference takes sums to be made. Of f16 the bound for tensor cores is the smaller one, and
    /// sums on a CPU keep to it as well.
    const SUMS: Sums;
    /// By how much y may be off, all elements together: ‖y − ref‖ / ‖ref‖ ≤ 2u. In f32 that would say less
    /// than the bounds of the elements do.
    const NORM_TOLERANCE: f64;
    /// The bytes of one element.
    type Bytes: IntoIterator<Item = u8>;

    /// Its bytes in a safetensors file.
    fn to_bytes(self) -> Self::Bytes;
}

impl Number for f16 {
    const TORCH: &'static str = "torch-fp16/";
    const TENSOR: Dtype = Dtype::F16;
    const SUMS: Sums = Sums::TensorCores;
    const NORM_TOLERANCE: f64 = 1.0 / 1024.0;
    type Bytes = [u8; 2];

    fn to_bytes(self) -> [u8; 2] {
        self.to_le_bytes()
    }
}

impl Number for bf16 {
    const TORCH: &'static str = "torch-bf16/";
    const TENSOR: Dtype = Dtype::BF16;
    const SUMS: Sums = Sums::OneByOne;
    const NORM_TOLERANCE: f64 = 1.0 / 128.0;
    type Bytes = [u8; 2];

    fn to_bytes(self) -> [u8; 2] {
        self.to_le_bytes()
    }
}

impl Number for f32 {
    const TORCH: &'static str = "torch-fp32/";
    const TENSOR: Dtype = Dtype::F32;
    const SUMS: Sums = Sums::OneByOne;
    const NORM_TOLERANCE: f64 = f64::INFINITY;
    type Bytes = [u8; 4];

    fn to_bytes(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}

/// Calls a function that is generic over a [`Number`](crate::number::Number) with the type that a `DType`
/// names. The result is an error where it is none of those that are measured.
#[macro_export]
macro_rules! with_number {
    ($dtype:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $dtype {
            fused_lora::DType::F16 => $function::<half::f16>($($argument),*),
            fused_lora::DType::Bf16 => $function::<half::bf16>($($argument),*),
            fused_lora::DType::F32 => $function::<f32>($($argument),*),
            dtype => Err(anyhow::anyhow!("{dtype} is not measured")),
        }
    };
}
