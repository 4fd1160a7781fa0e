"""The private gradient of one step: clip each unit, add them up, add noise, divide."""

import torch  # noqa: F401


def private_gradient(gradients, owners_N, clip, noise_multiplier, expected_units, generator):
    """Makes of per-record gradients the one gradient that an optimizer may see.

    The unit is an owner with all of its records in this batch. The batch was
    drawn by coins, so it may hold any number of records, also none.

    Args:
        gradients: a list with one float32 tensor for each parameter, of shape
            (N, *shape of the parameter): row n is the gradient of record n.
        owners_N: int64, whose record each one is; not sorted.
        clip: C, the largest norm of one unit's part, over all parameters.
        noise_multiplier: sigma. The Gaussian noise on the sum has a deviation
            of sigma * C in every element; with 0 there is none.
        expected_units: the number of units in a batch on average. A constant.
        generator: a torch.Generator; all noise comes from it.

    Returns:
        A list with one tensor for each parameter, of the parameter's shape. A
        unit whose gradient is infinite or NaN counts as zero. The arguments
        are left as they were.
    """
    raise NotImplementedError
