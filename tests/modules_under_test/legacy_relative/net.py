# mypy: ignore-errors
class Net:
    def answer(self):
        return [[(0, 0, 1, 1), {"relative": 1}]]
