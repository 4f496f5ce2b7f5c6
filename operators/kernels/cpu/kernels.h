// The kernels of the operators, for one instruction set.
#include "select.h"
#include "cross_entropy.h"
#include "rows.h"
#include "threshold.h"
#include "joint.h"
