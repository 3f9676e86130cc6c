use anyhow::{Result, anyhow};
use fused_lora::cuda::{
    Adapter, AdapterTable, Buffer, Device, Gpu, Layer, Matrix, MatrixMut, Properties, Segments, Stream,
    Target, Workspace, workspace_size,
};
use half::f16;
use ndarray::Array2;
use serde_json::{Value, json};

use super::job::{Job, Source, entry};

/// y, and what computed it.
pub(super) fn forward(job: &Job<'_, f16>, ordinal: u32) -> Result<(Array2<f16>, String)> {
    let device = Device::open(ordinal)?;
    let stream = Stream::new(&device)?;
    let load = |source: &Source<'_>| source.file.load(&source.module.name);
    let adapters = job.loras.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let mut layer = Layer::new(&device, job.weight.view())?.with_epilogue(&job.epilogue())?;
    let (m, n, k) = (job.x.nrows(), layer.out_features(), layer.in_features());
    let (rank, segments) = match (&job.segments, &*adapters) {
        (_, []) => (0, None),
        (None, [lora]) => {
            let adapter = Adapter::new(&device, lora.a.view(), lora.b.view(), lora.scale)?;
            let rank = adapter.rank();
            layer = layer.with_adapter(adapter)?;
            (rank, None)
        }
        (rows, adapters) => {
            let entries: Vec<_> = adapters.iter().map(entry).collect();
            let table = AdapterTable::new(&device, k, n, &entries)?;
            let segments = Segments::new(&table, m, rows.as_deref().unwrap_or_default())?;
            (table.max_rank(), Some(segments))
        }
    };
    let mut workspace = Workspace::new(&device, workspace_size(m, rank))?;

    let x = Buffer::from_slice(&device, &job.x.iter().copied().collect::<Vec<_>>())?;
    let mut y = Buffer::zeroed(&device, m * n)?;
    let x = Matrix::new(&x, m, k)?;
    let mut call = layer.call(x).strategy(job.strategy);
    if let Some(segments) = &segments {
        call = call.segments(segments);
    }
    call.run(MatrixMut::new(&mut y, m, n)?, &mut workspace, &stream)?;
    stream.synchronize()?;
    let by = format!("cuda:{ordinal}, {}, {}", device.properties().name, call.plan()?);
    let y = Array2::from_shape_vec((m, n), y.to_vec()?).map_err(|error| anyhow!("cannot read y: {error}"))?;
    Ok((y, by))
}

/// The device of this number, as a plan sees it.
pub(crate) fn gpu(ordinal: u32) -> Result<Gpu> {
    Ok(Device::open(ordinal)?.gpu().clone())
}

/// What `info` says of the devices: each with its properties, or why there is none.
pub(crate) fn facts() -> Vec<(String, Value)> {
    match Device::list() {
        Ok(devices) => {
            devices.iter().map(|device| (format!("cuda:{}", device.ordinal), properties(device))).collect()
        }
        Err(reason) => vec![("cuda".to_owned(), json!(format!("none: {reason}")))],
    }
}

fn properties(device: &Properties) -> Value {
    let ((major, minor), (cuda, cuda_minor)) = (device.compute_capability, device.driver_version);
    json!({
        "name": device.name,
        "uuid": device.uuid_text(),
        "compute-capability": format!("{major}.{minor}"),
        "multiprocessors": device.multiprocessors,
        "memory-mib": device.memory_bytes >> 20,
        "driver": format!("CUDA {cuda}.{cuda_minor}"),
        "kernels": match device.target() {
            Target::Sm80 => "sm_80",
            Target::Sm90a => "sm_80 and sm_90a",
        },
    })
}
