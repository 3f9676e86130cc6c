/// What `forward_observed` shows, of the CPU's layer and of the device's, in the order in which it comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Behind the first LayerNorm: `[M, d]`.
    Norm1,
    /// q, k and v: `[M, 3 d]`.
    Qkv,
    /// Behind attention: `[M, d]`.
    Attention,
    /// The residual stream behind the attention's projection, and its AdapterH: `[M, d]`.
    Middle,
    /// Behind the second LayerNorm: `[M, d]`.
    Norm2,
    /// Behind the MLP's first product and GELU: `[M, mlp]`.
    Mlp,
}
