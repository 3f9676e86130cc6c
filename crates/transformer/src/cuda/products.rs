use fused_lora::{Problem, Strategy};

use super::bottleneck::padded_rank;
use crate::{Config, Method, Targets};

/// The products that a forward pass of one layer asks [`fused_lora::cuda`] for, in their order, and how each is run; `m` rows,
/// adapters of this rank. LayerNorm and attention, which every method has, are no products.
///
/// What a product launches is [`Gpu::plan`](fused_lora::cuda::Gpu::plan)'s to say.
#[must_use]
pub fn products(
    config: &Config,
    method: Method,
    targets: Targets,
    rank: usize,
    m: usize,
) -> Vec<(Problem, Strategy)> {
    let Config { d, mlp, .. } = *config;
    let strategy = method.strategy();
    // Output and input width, and the rank of its adapter.
    let product = |n: usize, k: usize, rank: usize| (Problem::new(m, n, k, rank), strategy);
    let is_lora = matches!(method, Method::LoraUnfused | Method::LoraFused);
    let on_all = if is_lora && targets == Targets::All { rank } else { 0 };
    let bottleneck = [product(padded_rank(rank), d, 0), product(d, padded_rank(rank), 0)];
    let mut products = if is_lora && targets == Targets::QueryValue {
        vec![product(2 * d, d, rank), product(d, d, rank)]
    } else {
        vec![product(3 * d, d, on_all)]
    };
    products.push(product(d, d, on_all));
    if method == Method::AdapterH {
        products.extend(bottleneck);
    }
    products.extend([product(mlp, d, on_all), product(d, mlp, on_all)]);
    if matches!(method, Method::AdapterH | Method::AdapterL) {
        products.extend(bottleneck);
    }
    products
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiply-adds, computed in another way by the method.
    #[test]
    fn they_multiply_what_the_method_says() {
        let config = Config::GPT2_MEDIUM_LAYER;
        for targets in [Targets::All, Targets::QueryValue] {
            for method in Method::ALL {
                for rank in [8, 104, 256] {
                    let mul_adds = |(problem, _): &(Problem, Strategy)| {
                        let Problem { m, n, k, rank, .. } = *problem;
                        m * (n * k + rank * (n + k))
                    };
                    let products = products(&config, method, targets, rank, 3);
                    let mut expected = config.product_mul_adds() + method.mul_adds(&config, targets, rank);
                    if method.strategy() != Strategy::Base && targets == Targets::QueryValue {
                        // q's adapter is one of q and k together, whose columns of k are zero.
                        expected += (rank * config.d) as f64;
                    }
                    let sum: usize = products.iter().map(mul_adds).sum();
                    assert_eq!(sum as f64, 3.0 * expected, "{method} {targets:?} {rank}");
                }
            }
        }
    }
}
