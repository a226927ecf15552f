//! How much memory a GPU has free. WebGPU has no such question, so the driver is asked where wgpu lets us through to it
//! (Vulkan); elsewhere nothing is known, and an allocation that fails is the first to tell.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use super::device::Gpu;

/// Memory that may yet be allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub free: u64,
    /// Who says so.
    pub why: &'static str,
}

thread_local! {
    /// Is what this thread does now not bound by a limit?
    static EXEMPT: Cell<bool> = const { Cell::new(false) };
}

/// The limit a user set, in bytes.
#[derive(Debug, Default)]
pub(super) struct Limit(Mutex<Option<u64>>);

impl Limit {
    fn set(&self, bytes: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
    }

    fn get(&self) -> Option<u64> {
        if EXEMPT.get() {
            return None;
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most bytes held since somebody began to watch.
#[derive(Debug, Default)]
pub(super) struct Most(Mutex<Option<u64>>);

impl Most {
    /// Begins anew.
    fn begin(&self, held: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }

    /// Takes note of what is held now, which is asked for only where somebody watches; the most so far.
    fn note(&self, held: impl FnOnce() -> u64) -> Option<u64> {
        let mut most = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *most = most.map(|before| before.max(held()));
        *most
    }
}

/// The largest heap of a device's own memory, in bytes.
#[cfg_attr(
    not(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd")),
    allow(dead_code, reason = "only Vulkan tells")
)]
struct Heap {
    size: u64,
    /// What this process may still take of it by the driver's estimate, where it has one.
    free: Option<u64>,
}

impl Gpu {
    /// From now on, nothing is allocated beyond `bytes` in all, whatever the driver says. Where wgpu does not count what is held (Metal, OpenGL),
    /// an engine's plan and each allocation by itself stay below it. Self-tests of shaders, whose memory is given back before a model runs, are not
    /// bound.
    pub fn set_memory_limit(&self, bytes: u64) {
        self.limit.set(bytes);
    }

    /// Does `work`, whose allocations by this thread the limit does not bind: it gives back all that it takes. What it left staged
    /// is given back, too.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn beside_the_limit<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = EXEMPT.replace(true);
        let done = work();
        EXEMPT.set(before);
        if let Err(e) = self.drop_staging() {
            // A lost device: whoever uses it next is told.
            log::debug!("staging: {e}");
        }
        done
    }

    /// From now on, no tensor is larger than `bytes`, as on an adapter that cannot bind more: what is split there is split
    /// here.
    pub fn set_binding_limit(&self, bytes: u64) {
        self.binding_limit.set(bytes);
    }

    /// Bytes of the largest tensor: a buffer that is bound whole.
    #[must_use]
    pub fn max_binding_bytes(&self) -> u64 {
        let adapter = self.adapter.max_binding_bytes.min(self.adapter.max_buffer_bytes);
        self.binding_limit.get().map_or(adapter, |limit| limit.min(adapter))
    }

    /// Memory that is free: of the limit set, else by the driver's budget, else of the largest heap. `None` where the
    /// driver cannot be asked.
    #[must_use]
    pub fn room(&self) -> Option<Room> {
        // What was dropped is given back by a poll.
        let _ = self.device.poll(wgpu::PollType::Poll);
        let (held, reserved) = self.held();
        if let Some(limit) = self.limit.get() {
            return Some(Room { free: limit.saturating_sub(held), why: "of the memory limit set" });
        }
        // A software driver's heap is a number that binds nobody.
        let Heap { size, free } = heap(&self.device).filter(|h| h.free.is_some() || !self.adapter.is_software())?;
        Some(match free {
            // What wgpu's allocator holds in reserve is ours to fill.
            Some(free) => Room { free: (free + reserved - held).min(size), why: "by the driver's budget" },
            None => Room { free: size.saturating_sub(held), why: "of the largest heap" },
        })
    }

    /// The limit that was set, where `need` more bytes would go beyond it.
    pub(super) fn beyond_limit(&self, need: u64) -> Option<u64> {
        let limit = self.limit.get()?;
        let room = self.room()?;
        (need > room.free).then_some(limit)
    }

    /// Bytes of our buffers on the device, where wgpu's allocator counts them, else 0.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held().0
    }

    /// Begins [`Gpu::most_held_bytes`] anew, from what is held now. Allocations then take some microseconds longer.
    pub fn watch_held_bytes(&self) {
        // What was dropped is given back by a poll.
        let _ = self.device.poll(wgpu::PollType::Poll);
        if let Some((held, _)) = self.counted() {
            self.most.begin(held);
        }
    }

    /// The largest [`Gpu::held_bytes`] since [`Gpu::watch_held_bytes`]: tensors, staging and read-back buffers and whatever
    /// else there was. `None` where nobody watches or wgpu does not count (Metal, OpenGL, browsers).
    #[must_use]
    pub fn most_held_bytes(&self) -> Option<u64> {
        self.most.note(|| self.held_bytes())
    }

    /// Bytes in use and bytes set aside for them; zeros where they are not counted.
    fn held(&self) -> (u64, u64) {
        self.counted().unwrap_or((0, 0))
    }

    fn counted(&self) -> Option<(u64, u64)> {
        let report = self.device.generate_allocator_report();
        report.map(|r| (r.total_allocated_bytes, r.total_reserved_bytes.max(r.total_allocated_bytes)))
    }
}

#[cfg(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd"))]
#[allow(unsafe_code, reason = "what the Vulkan driver says of its memory, which wgpu does not pass on")]
fn heap(device: &wgpu::Device) -> Option<Heap> {
    use ash::vk;

    // SAFETY: nothing is destroyed or changed; the handles are used while the guard `hal` keeps them alive.
    let hal = unsafe { device.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let (shared, physical) = (hal.shared_instance(), hal.raw_physical_device());
    let instance = shared.raw_instance();
    // SAFETY: a query of Vulkan 1.0 with a handle of this instance.
    let version = unsafe { instance.get_physical_device_properties(physical) }.api_version;
    let budgeted = version.min(shared.instance_api_version()) >= vk::API_VERSION_1_1
        && hal.enabled_device_extensions().contains(&ash::ext::memory_budget::NAME);
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let heaps = if budgeted {
        let mut all = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
        // SAFETY: a query of Vulkan 1.1, which instance and device have; the chained structure is of an extension that
        // is enabled.
        unsafe { instance.get_physical_device_memory_properties2(physical, &mut all) };
        all.memory_properties
    } else {
        // SAFETY: a query of Vulkan 1.0.
        unsafe { instance.get_physical_device_memory_properties(physical) }
    };
    let own = heaps.memory_heaps.iter().take(heaps.memory_heap_count as usize).enumerate();
    let own = own.filter(|(_, heap)| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL));
    let (index, largest) = own.max_by_key(|(_, heap)| heap.size)?;
    let free = budgeted.then(|| budget.heap_budget[index].saturating_sub(budget.heap_usage[index]));
    Some(Heap { size: largest.size, free })
}

#[cfg(not(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn heap(_: &wgpu::Device) -> Option<Heap> {
    None
}
