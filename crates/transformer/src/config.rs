use crate::error::Error;

/// The longest sequence, in tokens: the number of GPT-2's position embeddings.
pub const SEQ_LEN_LIMIT: usize = 1024;

/// The sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// Width of the residual stream.
    pub d: usize,
    /// Heads of attention; their number divides d.
    pub heads: usize,
    /// Width within the MLP.
    pub mlp: usize,
    /// Number of layers.
    pub layers: usize,
}

impl Config {
    /// One layer of GPT-2 medium; the whole model has 24.
    pub const GPT2_MEDIUM_LAYER: Config = Config { d: 1024, heads: 16, mlp: 4096, layers: 1 };

    /// Returns the configuration itself if it is valid.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroSize`], and [`Error::Heads`] if the number of heads does not divide d.
    pub fn validated(self) -> Result<Self, Error> {
        let Config { d, heads, mlp, layers } = self;
        for (what, size) in
            [("width d", d), ("number of heads", heads), ("MLP width", mlp), ("number of layers", layers)]
        {
            if size == 0 {
                return Err(Error::ZeroSize(what));
            }
        }
        if !d.is_multiple_of(heads) {
            return Err(Error::Heads { heads, d });
        }
        Ok(self)
    }

    /// Columns of a head.
    pub fn head_dim(&self) -> usize {
        self.d / self.heads
    }

    /// Multiply-adds of the four products for one token, of all layers: `layers · (4 d² + 2 d mlp)`. With
    /// GPT-2's mlp = 4 d these are 12 d² a layer.
    pub fn product_mul_adds(&self) -> f64 {
        let [d, mlp, layers] = [self.d, self.mlp, self.layers].map(|size| size as f64);
        layers * (4.0 * d * d + 2.0 * d * mlp)
    }

    /// Multiply-adds of attention for one token, averaged over a sequence, of all layers: d each for the
    /// score and for the weighted value of every key that the token sees, `layers · d · (seq_len + 1)`.
    pub fn attention_mul_adds(&self, seq_len: usize) -> f64 {
        self.layers as f64 * self.d as f64 * (seq_len as f64 + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        let good = Config::GPT2_MEDIUM_LAYER;
        assert_eq!(good.validated(), Ok(good));
        assert_eq!(Config { heads: 15, ..good }.validated(), Err(Error::Heads { heads: 15, d: 1024 }));
        for (config, what) in [
            (Config { d: 0, ..good }, "width d"),
            (Config { heads: 0, ..good }, "number of heads"),
            (Config { mlp: 0, ..good }, "MLP width"),
            (Config { layers: 0, ..good }, "number of layers"),
        ] {
            assert_eq!(config.validated(), Err(Error::ZeroSize(what)));
        }
        assert_eq!(
            Error::Heads { heads: 15, d: 1024 }.to_string(),
            "15 heads do not divide the width d = 1024"
        );
    }

    #[test]
    fn multiply_adds_of_gpt2_medium() {
        let layer = Config::GPT2_MEDIUM_LAYER;
        assert_eq!(layer.product_mul_adds(), 12.0 * 1024.0 * 1024.0);
        assert_eq!(Config { layers: 24, ..layer }.product_mul_adds(), 24.0 * 12.0 * 1024.0 * 1024.0);
        // Tokens 1 to 3 see 1, 2, 3 keys: 2 on average, 2 d for each.
        assert_eq!(layer.attention_mul_adds(3), 4.0 * 1024.0);
    }
}
