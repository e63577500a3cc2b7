"""What is done to the colours of images, each operation on many at once: jitter, grayscale, blur, solarize, normalisation.

Images are float32 [n, 3, h, w] in 0..1 unless said otherwise; factors are [n, 1, 1, 1]. Every operation is torchvision's on tensors of
floats (its reference in the tests); the blur is that of a kernel of 13 px, three standard deviations of the widest. Names that end in _
work in place, as a CPU likes it; `jittered`, `finished` are the same for a compiler, which makes one kernel of many operations.
"""

import torch
import torch.nn.functional as F

from microtome.section import Rgb

BLUR_RADIUS_PX = 6
GRAY = (0.2989, 0.587, 0.114)
OPPOSITE = (3, 5, 1)  # the hues, in sextants, that red, green and blue are farthest from


def normalise(images: torch.Tensor, mean: Rgb, std: Rgb) -> torch.Tensor:
    """(images - mean) / std of each channel, in place."""
    for channel, centre, spread in zip(images.unbind(dim=1), mean, std, strict=True):
        channel.sub_(centre).div_(spread)
    return images


def luma(images: torch.Tensor) -> torch.Tensor:
    """Grey levels [n, 1, h, w] of images [n, 3, h, w] (ITU-R 601-2)."""
    red, green, blue = images.unsqueeze(2).unbind(dim=1)
    return (red * GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])


def brightness_(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Multiply by `factor` [n, 1, 1, 1]."""
    return images.mul_(factor).clamp_(0, 1)


def contrast_(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Move away from (`factor` above 1) or towards the image's mean grey level."""
    mean = luma(images).mean(dim=(2, 3), keepdim=True)
    return images.mul_(factor).add_(mean * (1 - factor)).clamp_(0, 1)


def saturation_(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Move away from or towards the pixel's grey level."""
    grey = luma(images)
    return images.mul_(factor).add_(grey.mul_(1 - factor)).clamp_(0, 1)


def hue_(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn the hue of HSV by `turns` (a whole circle is 1), keeping saturation and value."""
    value, chroma, sextant = _hsv(images)
    sextant.add_(6 * turns)
    for channel, opposite in zip(images.unsqueeze(2).unbind(dim=1), OPPOSITE, strict=True):
        straight = (sextant - opposite).abs_()
        distance = torch.minimum(straight, (straight - 6).abs_())
        torch.sub(value, distance.neg_().add_(2).clamp_(0, 1).mul_(chroma), out=channel)
    return images


def _hsv(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Value V, chroma C and hue h in sextants, [n, 1, h, w] each.

    The way back is V - C clamp(2 - distance, 0, 1), where distance is that of h to the channel's opposite hue on a circle of six: hue alone
    has to be computed, and turned.
    """
    red, green, blue = images.unsqueeze(2).unbind(dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    per_chroma = 1 / chroma.clamp(min=1e-12)
    from_red = (green - blue).mul_(per_chroma)
    from_green = (blue - red).mul_(per_chroma).add_(2)
    from_blue = (red - green).mul_(per_chroma).add_(4)
    return value, chroma, from_blue.lerp_(from_green, _equal(green, value)).lerp_(from_red, _equal(red, value))


def _equal(images: torch.Tensor, at_least_as_large: torch.Tensor) -> torch.Tensor:
    """1.0 where two images are equal, else 0.0: the weight of a `lerp`. A CPU does this ten times faster than `==` and `where`."""
    return (images - at_least_as_large).mul_(1e30).add_(1).clamp_(min=0)


def grayscale_(images: torch.Tensor) -> torch.Tensor:
    """The grey level in all three channels."""
    return images.copy_(luma(images).expand_as(images))


def blur(images: torch.Tensor, sigma_px: torch.Tensor) -> torch.Tensor:
    """A Gaussian blur of `sigma_px` [n, 1, 1, 1], a kernel of 13 px along each axis; the border is reflected."""
    n, channels, height, width = images.shape
    offset = torch.arange(-BLUR_RADIUS_PX, BLUR_RADIUS_PX + 1, device=images.device).view(1, 1, 1, -1)
    kernel = torch.exp(-0.5 * (offset / sigma_px) ** 2)
    kernel = (kernel / kernel.sum(dim=3, keepdim=True)).repeat_interleave(channels, dim=0)
    padded = F.pad(images, [BLUR_RADIUS_PX] * 4, mode="reflect").view(1, n * channels, height + 2 * BLUR_RADIUS_PX, -1)
    across = F.conv2d(padded, kernel, groups=n * channels)
    return F.conv2d(across, kernel.transpose(2, 3), groups=n * channels).view(n, channels, height, width)


def solarize_(images: torch.Tensor) -> torch.Tensor:
    """Invert what is at least 128 of 255."""
    return images.lerp_(1 - images, (images >= 128 / 255).float())


def jittered(images: torch.Tensor, which: torch.Tensor, factors: torch.Tensor, gray: torch.Tensor) -> torch.Tensor:
    """Jitter, and grayscale where `gray` says so, of whole grey levels in 0..255; the result is in 0..1.

    Args:
        images: grey levels.
        which: [4, n, 1, 1, 1], the number (0 brightness, 1 contrast, 2 saturation, 3 hue) of each sample's first, second ... operation.
        factors: [4, n, 1, 1, 1], of that operation; a brightness of 1 leaves a sample as it is.
        gray: [n, 1, 1, 1].
    """
    images = images / 255
    for number, factor in zip(which, factors, strict=True):
        grey = luma(images)
        towards = torch.where(number == 1, grey.mean(dim=(2, 3), keepdim=True), torch.where(number == 2, grey, 0.0))
        blended = (images * factor + towards * (1 - factor)).clamp(0, 1)
        images = torch.where(number == 3, _turned(images, factor), blended)
    return torch.where(gray, luma(images), images)


def _turned(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    value, chroma, sextant = _hsv(images)
    straight = (sextant + 6 * turns - _of_channel(OPPOSITE, images)).abs()
    distance = torch.minimum(straight, (straight - 6).abs())
    return value - chroma * (2 - distance).clamp(0, 1)


def finished(images: torch.Tensor, solarize: torch.Tensor, mean: Rgb, std: Rgb) -> torch.Tensor:
    """Solarize where `solarize` [n, 1, 1, 1] says so, and normalise."""
    images = torch.where(solarize & (images >= 128 / 255), 1 - images, images)
    return (images - _of_channel(mean, images)) / _of_channel(std, images)


def _of_channel(values: Rgb, images: torch.Tensor) -> torch.Tensor:
    """The value of each channel [1, 3, 1, 1], made where it is needed: a tensor of constants would be copied to the device."""
    channel = torch.arange(3, device=images.device).view(1, 3, 1, 1)
    return torch.where(channel == 0, values[0], torch.where(channel == 1, values[1], values[2]))
