// The kernels of the attention, for one instruction set.
#include "tiles.h"
#include "attention.h"
#include "attention_backward.h"
