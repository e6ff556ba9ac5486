# mypy: ignore-errors
def brightness(image):
    histogram = image.convert("L").histogram()
    return sum(value * count for value, count in enumerate(histogram)) / 255 / sum(histogram)
