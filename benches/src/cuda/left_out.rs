//! Methods that no kernel is left for, where `FUSED_LORA_PLAN` leaves some out.

use fused_lora::{cuda, plan};
use fused_lora_transformer::Error;

use crate::settings::PLAN;

/// What was made; or, where kernels are left out and none is left for it, nothing, and a line on stderr.
pub(crate) fn or_left_out<T>(
    leaves_out: bool,
    id: &str,
    made: anyhow::Result<T>,
) -> anyhow::Result<Option<T>> {
    match made {
        Err(error) if leaves_out && is_no_kernel(&error) => {
            eprintln!("skipped: {id}: {error}: {PLAN} leaves none");
            Ok(None)
        }
        made => made.map(Some),
    }
}

fn is_no_kernel(error: &anyhow::Error) -> bool {
    let of_layer = || match error.downcast_ref() {
        Some(Error::Cuda(error)) => Some(error),
        _ => None,
    };
    matches!(error.downcast_ref().or_else(of_layer), Some(cuda::Error::Plan(plan::Error::NoKernel { .. })))
}

#[cfg(test)]
mod tests {
    use fused_lora::Strategy;
    use fused_lora::cuda::Operation;

    use super::*;

    #[test]
    fn only_what_no_kernel_is_left_for_is_left_out() {
        let (strategy, operation) = (Strategy::Fused, Operation::Fused);
        let none = cuda::Error::from(plan::Error::NoKernel { strategy, operation });
        for error in [none.clone().into(), anyhow::Error::new(Error::Cuda(none.clone()))] {
            assert_eq!(or_left_out::<()>(true, "r10/fused", Err(error)).unwrap(), None);
        }
        assert!(or_left_out::<()>(false, "r10/fused", Err(none.into())).is_err(), "nothing was left out");
        assert!(or_left_out::<()>(true, "r10/fused", Err(cuda::Error::NoDevice.into())).is_err());
        assert_eq!(or_left_out(true, "r10/fused", Ok(7)).unwrap(), Some(7));
    }
}
