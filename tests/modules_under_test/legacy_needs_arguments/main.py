# mypy: ignore-errors
class NeedsArguments:
    """Wants an argument that nobody gives."""

    def __init__(self, gpu_id):
        self.gpu_id = gpu_id

    def inference_by_path(self, image_path):
        return []
