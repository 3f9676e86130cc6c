//! `setmaxnreg`: what lanes hold survives it.

use crate::{inputs, launch::check};

#[test]
fn setmaxnreg() {
    const ITEMS: usize = 3;
    for (name, seed) in [("setmaxnreg_dec", 1), ("setmaxnreg_inc", 2)] {
        let input = inputs::words(ITEMS * 384, seed);
        check(name, ITEMS, &input, &input);
    }
}
