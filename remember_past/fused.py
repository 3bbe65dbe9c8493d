class FusedConvNet:
    @staticmethod
    def fits(net): return False
