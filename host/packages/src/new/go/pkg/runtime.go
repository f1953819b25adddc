// From go.bytecodealliance.org/pkg, see LICENSE. Nothing is handed over before Go has started, so that no memory
// is taken past it (`runtime.sbrk` is no longer linked); handles that are no longer used are dropped where something may be called;
// `fmt` is left out.

package runtime

import (
	"runtime"
	"unsafe"
)

type Handle struct {
	value int32
}

func (h *Handle) Use() int32 {
	if h.value == 0 {
		panic("nil handle")
	}
	return h.value
}

func (h *Handle) Take() int32 {
	if h.value == 0 {
		panic("nil handle")
	}
	value := h.value
	h.value = 0
	return value
}

func (h *Handle) Set(value int32) {
	if value == 0 {
		panic("nil handle")
	}
	if h.value != 0 {
		panic("handle already set")
	}
	h.value = value
}

func (h *Handle) TakeOrNil() int32 {
	value := h.value
	h.value = 0
	return value
}

func MakeHandle(value int32) *Handle {
	if value == 0 {
		panic("nil handle")
	}
	dropUnused()
	return &Handle{value}
}

// Go may find a handle that is no longer used inside of `cabi_realloc`, where nothing may be called.
var unused []func()

func DropLater(drop func()) {
	unused = append(unused, drop)
}

func dropUnused() {
	for len(unused) > 0 {
		last := len(unused) - 1
		drop := unused[last]
		unused = unused[:last]
		drop()
	}
}

func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	pointer := allocateRaw(size, align)
	pinner.Pin(pointer)
	return pointer
}

func allocateRaw(size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}
	if size%align != 0 {
		panic("a size does not fit its alignment")
	}
	switch align {
	case 1:
		return unsafe.Pointer(unsafe.SliceData(make([]uint8, size)))
	case 2:
		return unsafe.Pointer(unsafe.SliceData(make([]uint16, size/align)))
	case 4:
		return unsafe.Pointer(unsafe.SliceData(make([]uint32, size/align)))
	case 8:
		return unsafe.Pointer(unsafe.SliceData(make([]uint64, size/align)))
	default:
		panic("an alignment of more than 8 is not supported")
	}
}

var pinner = runtime.Pinner{}

// Called as a call from the host begins.
func Unpin() {
	pinner.Unpin()
	dropUnused()
}

//go:wasmexport cabi_realloc
func cabiRealloc(oldPointer unsafe.Pointer, oldSize, align, newSize uintptr) unsafe.Pointer {
	if oldPointer != nil || oldSize != 0 {
		panic("no memory is ever made larger")
	}
	return Allocate(&pinner, newSize, align)
}
