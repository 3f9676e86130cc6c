//! Random matrices, made as fast as they can be copied.

use std::collections::BTreeMap;

use fused_lora::Element;
use half::f16;
use ndarray::Array2;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Normal};

/// Elements of a stock.
const STOCK: usize = 1 << 18;
/// Elements that are cut from it at once. No multiple of a usual width: no two rows of a matrix begin at the
/// same place of a piece.
const PIECE: usize = 1021;

/// Normally distributed numbers. Pieces are cut from a stock of them at random places: drawing each element
/// of a ring of gigabytes would take longer than the measurement. Zeros and ones test nothing.
pub struct Normals<T = f16> {
    rng: Xoshiro256PlusPlus,
    /// By the bits of the standard deviation.
    stocks: BTreeMap<u64, Vec<T>>,
}

impl<T: Element> Normals<T> {
    /// Numbers that only depend on the seed and on what is asked for in which order.
    pub fn new(seed: u64) -> Normals<T> {
        Normals { rng: Xoshiro256PlusPlus::seed_from_u64(seed), stocks: BTreeMap::new() }
    }

    /// Fills a slice with numbers of that standard deviation.
    pub fn fill(&mut self, deviation: f64, elements: &mut [T]) {
        let rng = &mut self.rng;
        let stock = self.stocks.entry(deviation.to_bits()).or_insert_with(|| {
            let normal = Normal::new(0.0, deviation).expect("a deviation is finite and not negative");
            normal.sample_iter(&mut *rng).take(STOCK).map(|value: f64| T::from_f32(value as f32)).collect()
        });
        for piece in elements.chunks_mut(PIECE) {
            let start = rng.random_range(0..=STOCK - piece.len());
            piece.copy_from_slice(&stock[start..start + piece.len()]);
        }
    }

    /// A matrix of numbers with that standard deviation.
    pub fn matrix(&mut self, deviation: f64, rows: usize, columns: usize) -> Array2<T> {
        let mut matrix = Array2::from_elem((rows, columns), T::default());
        self.fill(deviation, matrix.as_slice_mut().expect("a new matrix is one slice"));
        matrix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_spread_as_asked() {
        let matrix = Normals::<f16>::new(1).matrix(0.25, 100, 1000);
        let values: Vec<f64> = matrix.iter().map(|value| value.to_f64()).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
        assert!(mean.abs() < 0.01 && (deviation - 0.25).abs() < 0.01, "mean {mean}, deviation {deviation}");
    }

    #[test]
    fn rows_and_matrices_differ_and_seeds_repeat() {
        let mut normals = Normals::<f16>::new(7);
        let (first, second) = (normals.matrix(1.0, 50, 64), normals.matrix(1.0, 50, 64));
        assert_ne!(first, second);
        for i in 0..50 {
            for j in 0..i {
                assert_ne!(first.row(i), first.row(j), "rows {j} and {i}");
            }
        }
        assert_eq!(first, Normals::new(7).matrix(1.0, 50, 64));
        assert_ne!(first, Normals::new(8).matrix(1.0, 50, 64));
    }

    #[test]
    fn shapes_may_be_empty_or_wider_than_the_stock() {
        let mut normals = Normals::<f16>::new(1);
        assert_eq!(normals.matrix(1.0, 0, 10).dim(), (0, 10));
        assert_eq!(normals.matrix(1.0, 10, 0).dim(), (10, 0));
        let wide = normals.matrix(1.0, 1, STOCK + 5);
        assert!(wide.iter().filter(|value| **value == f16::ZERO).count() < 1000);
    }
}
